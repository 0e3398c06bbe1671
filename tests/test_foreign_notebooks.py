"""Foreign files through the notebooks that a person would take: bias analysis, synthesis from a server, evaluation."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import papermill
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from training_toys import tokenizer

from dartlib.analysis import file_name
from dartlib.records import Query, SftRow, read_records

REPOSITORY = Path(__file__).resolve().parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
LESSON_FIGURES = {  # of notebook 01, drawn from the run whatever sets are given
    "responses_by_level", "coverage_by_level", "pass_rate_ladder", "vrt_prediction", "pass_at_k",
}  # fmt: skip
CHAT = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def execute(name: str, folder: Path, **parameters: Any) -> str:
    """Run a committed notebook; returns everything it printed."""
    stage = folder / name
    stage.mkdir(parents=True)
    ran = papermill.execute_notebook(
        str(REPOSITORY / "notebooks" / f"{name}.ipynb"),
        str(stage / "executed.ipynb"),
        {"RUN_FOLDER": str(folder), "STAGE_FOLDER": str(stage), **parameters},
        kernel_name="python3",
        cwd=str(REPOSITORY / "notebooks"),
        progress_bar=False,
    )
    outputs = [output for cell in ran.cells for output in cell.get("outputs", [])]
    return "".join(output["text"] for output in outputs if output["output_type"] == "stream")


def sum_of(prompt: str) -> int:
    return sum(int(number) for number in re.findall(r"What is (\d+) \+ (\d+)\?", prompt)[-1])


@pytest.fixture
def teacher(tmp_path: Path) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """A server that adds rightly, of a model with a chat template: its address, its name, and what it was asked."""
    words = tokenizer()
    words.chat_template = CHAT
    words.save_pretrained(tmp_path / "chat-model")
    name = str(tmp_path / "chat-model")
    bodies: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.reply(200, {"object": "list", "data": [{"id": name, "object": "model"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if not self.path.endswith("/completions"):
                return self.reply(404, {"error": {"message": "no such route"}})
            bodies.append(body)
            text = f" {len(bodies)}: the answer is {sum_of(body['prompt'])}."
            choice = {"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}
            usage = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
            return self.reply(200, {"id": "c", "object": "text_completion", "choices": [choice], "usage": usage})

        def reply(self, status: int, value: Any) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", name, bodies
    server.shutdown()


def test_bias_of_conversations_late_columns_and_sets_without_ascii_names(tmp_path: Path) -> None:
    def turns(question: str, answer: str) -> list[dict[str, str]]:
        return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]

    late = [{"conversations": turns(f"What is {n} + 1?", f"{n} once")} for n in range(8)]
    late += [{"conversations": turns(f"What is {n} + 1?", f"{n} again"), "level": 1 + n % 5} for n in range(8)]
    late += [{"conversations": turns("What is 7 + 1?", "never"), "correct": False}]
    chinese, greek = tmp_path / "数学.jsonl", tmp_path / "μαθήματα.parquet"
    for row in late[:-1]:
        row["correct"] = True
    chinese.write_text("".join(json.dumps(row) + "\n" for row in late))
    user, reply = {"role": "user", "content": "What is 2 + 1?"}, {"role": "assistant", "content": "3"}
    pq.write_table(pa.Table.from_pylist([{"messages": [user, reply, user, reply]}] * 3), greek)
    asked = tmp_path / "asked.parquet"
    questions = [[{"role": "user", "content": f"What is {n} + 1?"}] for n in range(10)]
    prompts = [{"prompt": turn, "reward_model": {"ground_truth": str(n)}} for n, turn in enumerate(questions, start=1)]
    pq.write_table(pa.Table.from_pylist(prompts), asked)
    common = {"QUERIES": [str(asked)], "HARDEST": 1, "RUN_FOLDER": "papermill_runs/reference"}  # the lesson's run
    execute("01_bias_analysis", tmp_path / "first", DATASETS=[str(chinese)], **common)
    metrics = json.loads((tmp_path / "first" / "01_bias_analysis" / "metrics.json").read_text())
    assert "'wrong': 1" in str(metrics) and "'correct': 16" in str(metrics)
    columns = {"query": "messages.0.content", "response": "messages.-1.content"}
    execute("01_bias_analysis", tmp_path / "second", DATASETS=[str(greek)], COLUMNS=columns, **common)
    stems = [f"bias_{file_name(path.stem)}_responses_by_level" for path in (chinese, greek)]
    drawn = [{path.stem for path in (tmp_path / run / "figures").glob("*.png")} for run in ("first", "second")]
    assert stems[0] in drawn[0] and stems[1] in drawn[1]
    assert drawn[0] & drawn[1] == {name for name in drawn[0] if name.partition("bias_")[2] in LESSON_FIGURES}


def test_a_chat_model_teaches_problems_of_nested_and_repeated_rows(
    tmp_path: Path, teacher: tuple[str, str, list[dict[str, Any]]]
) -> None:
    address, model, bodies = teacher
    row = {"data_source": "own", "extra_info": {"index": 1}, "ability": "math"}
    rows = [
        row | {"prompt": [{"role": "user", "content": f"What is {n} + 2?"}], "reward_model": {"truth": str(n + 2)}}
        for n in (1, 2, 3, 1, 1)
    ]
    rows[-1]["reward_model"] = {"truth": "12"}
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "problems.parquet")
    said = execute(
        "02_synthesis",
        tmp_path / "run",
        QUERIES=str(tmp_path / "problems.parquet"),
        COLUMNS={"reference_answer": "reward_model.truth"},
        ENGINE=address,
        MODEL=model,
        TEMPLATE="chat",
        DIFFICULTY_TRIALS=2,
        VRT_TRIALS=2,
        TRIAL_CAP=4,
    )
    assert "2 of 5 rows repeat a problem (1 problems): asked once each" in said
    assert "1 rows answer a problem that stood before in other words: row 1 and row 5 ('3', '12')" in said
    stage = tmp_path / "run" / "02_synthesis"
    queries = read_records(stage / "queries.parquet", Query)
    assert sorted((query.query, query.reference_answer) for query in queries) == [
        (f"What is {n} + 2?", str(n + 2)) for n in (1, 2, 3)
    ]
    # its tokenizer adds no <s> by itself, so the template's own one stays
    assert {body["prompt"] for body in bodies} == {f"<s><user>{query.query}</s><assistant>" for query in queries}
    assert all(body.get("stop", ["</s>"]) == ["</s>"] for body in bodies)
    data = read_records(stage / "datasets" / "prop2diff.parquet", SftRow)
    assert {row.query for row in data} == {query.query for query in queries}


def test_an_own_template_and_benchmark_evaluate_a_model(
    tmp_path: Path, teacher: tuple[str, str, list[dict[str, Any]]]
) -> None:
    address, model, bodies = teacher
    rows = [{"text": f"What is {n} + 5?", "extra": {"key": n + 5}} for n in (1, 2, 2)]
    (tmp_path / "bench.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "mine.yaml").write_text('prompt: "{0} asks: {query} Say:"\nstop: ["asks:"]\n')
    said = execute(
        "04_evaluation",
        tmp_path / "run",
        BENCHMARKS=[str(tmp_path / "bench.jsonl")],
        COLUMNS={"query": "text", "reference_answer": "extra.key"},
        ENGINE=address,
        MODEL=model,
        MODEL_NAME="student",
        TEMPLATE=str(tmp_path / "mine.yaml"),
    )
    assert "1 of 3 rows repeat a problem (1 problems): each occurrence is a query of its own" in said
    assert {body["prompt"] for body in bodies} == {f"{{0}} asks: What is {n} + 5? Say:" for n in (1, 2)}
    assert len(bodies) == 3 + 3 * 4  # once each, and four samples of each for the lesson
    metrics = json.loads((tmp_path / "run" / "04_evaluation" / "metrics.json").read_text())
    assert metrics["template"] == "mine.yaml" and metrics["verdicts"]["correct"] == 3


ONE = '{"query": "1 + 1?", "answer": "2"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("packed.jsonl", gzip.compress(ONE.encode(), mtime=0), r"packed.jsonl: is compressed \(.gz\): unpack it first"),
        ("lines.json", 2 * ONE.encode(), "lines.json: holds JSON Lines: rename it to lines.jsonl"),
        (
            "huge.jsonl",
            (ONE + ONE.replace('"2"', "1e999")).encode(),
            "huge.jsonl, line 2: answer is too large for a numb",
        ),
    ],
)
def test_synthesis_says_how_to_mend_a_file(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(papermill.PapermillExecutionError, match=message):
        execute("02_synthesis", tmp_path / "run", QUERIES=str(tmp_path / name))
