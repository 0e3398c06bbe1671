"""Wrong numbers that others reported in public, each as the test that would have shown it here.

Reports about code that lives elsewhere in this project are guarded there: golds that score zero or differ from
themselves (lm-evaluation-harness 3475, 4030), commas and signs (opencompass 2426) in test_grading_references; the first
"Answer:" graded (simple-evals 115) in test_grading_extraction; a grader's release that moves scores (sieval 31) by
`regrade`; intervals that do not cover (marin 9196) in test_statistics_comparison and the coverage table. Faults seeded
into scoring (lm-evaluation-harness 3957): by hand, 17 of them; no standing mutation run.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from stub_engine import TEMPLATE, StubEngine, numbered_queries

from dartlib.engines import Completion, EngineError, SamplingParameters
from dartlib.evaluation import ComparisonError, EvaluationError, compare_results, evaluate
from dartlib.evaluation.scores import score_items
from dartlib.grading import GradingPool
from dartlib.queries import broken_items
from dartlib.records import make_queries
from dartlib.statistics import majority_at_k, pass_at_k


def run(folder: Path, engine: StubEngine, rates: Sequence[float] = (1.0, 0.5, 0.0, 0.7), **options):
    options = {"queries": numbered_queries(rates), "template": TEMPLATE} | options
    sampling = SamplingParameters(options.pop("temperature", 0.0), 1.0, 32)
    asked = options.pop("queries")
    return evaluate(asked, engine=engine, sampling=sampling, output_folder=folder, log=lambda line: None, **options)


def test_lighteval_771_a_missing_sample_is_no_wrong_one(tmp_path: Path) -> None:
    """github.com/huggingface/lighteval/issues/771: pass@1 divided by n although fewer samples existed."""
    items = run(tmp_path, StubEngine(), samples=4, temperature=0.7).items
    with GradingPool() as grading, pytest.raises(EvaluationError, match="1 items have not all of their 4 samples"):
        score_items(items.drop(index=items.index[-1]), grading)


class ShortContext(StubEngine):
    """A server that refuses the prompt of one question for good."""

    async def complete(self, prompt, sampling, seed):
        if "number 2" in prompt:
            raise EngineError("prompt has 5000 tokens, the context 4096", retryable=False)
        return await super().complete(prompt, sampling, seed)


def test_open_r1_310_a_prompt_beyond_the_context_is_an_error(tmp_path: Path) -> None:
    """github.com/huggingface/open-r1/issues/310: prompts were cut, or no token was left, and scores fell to zero."""
    missing = numbered_queries((1.0, 0.5, 0.0, 0.7))[2].query_id
    with pytest.raises(EvaluationError, match=f"1 of 4 questions got no reply, first {missing} .*5000 tokens"):
        run(tmp_path, ShortContext())
    assert not (tmp_path / "result.json").exists()


class Reasoning(StubEngine):
    """Reasons with every stop string of the template in its text; stops only at what it is told."""

    async def complete(self, prompt, sampling: SamplingParameters, seed):
        self.asked = sampling
        return Completion("First part.\nQ: is it 8? A: no.\nThe answer is 7.", "stop", 9, None, 0.0)


def test_sglang_29264_stop_strings_and_cap_are_those_of_the_protocol(tmp_path: Path) -> None:
    """A stop string inside the reasoning, or a cap that never reached the engine (TensorRT-LLM 17022).

    github.com/sgl-project/sglang/pull/29264; github.com/NVIDIA/TensorRT-LLM/issues/17022
    """
    engine = Reasoning()
    report = run(tmp_path, engine)
    protocol = report.benchmarks["stub"]["protocol"]
    assert list(engine.asked.stop) == protocol["stop"] == list(TEMPLATE.stop)
    assert engine.asked.max_tokens == protocol["max_tokens"] == 32
    assert set(report.items["verdict"]) == {"correct"}
    assert report.benchmarks["stub"]["finish_reasons"] == {"stop": 4}


class HalfCut(StubEngine):
    """Every second question's reply ends at the cap."""

    async def complete(self, prompt, sampling, seed):
        reply = await super().complete(prompt, sampling, seed)
        return replace(reply, finish_reason="length") if int(prompt.split()[2]) % 2 else reply


def test_olmo_eval_399_what_was_cut_stands_beside_the_score(tmp_path: Path) -> None:
    """github.com/allenai/olmo-eval/issues/399: replies cut by the cap explained the whole shortfall."""
    run(tmp_path, HalfCut(), rates=[1.0] * 10)
    row = compare_results([tmp_path]).scores.iloc[0]
    assert (row["value"], row["cut"], row["finished"]) == (0.5, 0.5, 1.0)


def test_vllm_50435_every_item_names_its_engine(tmp_path: Path) -> None:
    """github.com/vllm-project/vllm/issues/50435: an engine's release moved a score by five points."""
    run(tmp_path / "a", StubEngine(), model="a")
    newer = StubEngine()
    newer.name = "stub 2"
    report = run(tmp_path / "b", newer, model="b")
    assert set(report.items["engine"]) == {"stub 2"}
    with pytest.raises(ComparisonError, match="engine: 'stub' / 'stub 2'"):
        compare_results([tmp_path / "a", tmp_path / "b"])


def test_nemo_skills_678_the_order_of_samples_changes_nothing(tmp_path: Path) -> None:
    """github.com/NVIDIA-NeMo/Skills/issues/678: majority hung on the order of seeds; sieval 88: on the tie rule."""
    items = run(tmp_path, StubEngine(), rates=[0.5] * 6, samples=5, temperature=0.7).items
    with GradingPool() as grading:
        expected = score_items(items, grading)["scores"]
        for seed in range(3):
            shuffled = items.sample(frac=1, random_state=seed)
            assert score_items(shuffled, grading)["scores"] == expected
    assert majority_at_k(2, [(1, True), (1, False)], 2) == 0.5  # a tie is worth its share


def test_aprender_2118_one_greedy_sample_gives_no_pass_at_ten(tmp_path: Path) -> None:
    """github.com/paiml/aprender/pull/2118: a pass@10 of 97.7 % from one greedy sample."""
    with pytest.raises(ValueError, match="k=10, n=1"):
        pass_at_k(1, 1, 10)
    with pytest.raises(EvaluationError, match="copies"):
        run(tmp_path, StubEngine(), samples=10)
    assert list(run(tmp_path, StubEngine()).benchmarks["stub"]["scores"]) == ["pass@1"]


class Flaky(StubEngine):
    """Fails every third request, in a way that may pass."""

    async def complete(self, prompt, sampling, seed):
        if random.Random(f"{prompt}{self.requests}").random() < 0.3:
            self.requests += 1
            raise EngineError("busy")
        return await super().complete(prompt, sampling, seed)


def test_inspect_ai_2914_items_are_the_denominator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """github.com/UKGovernmentBEIS/inspect_ai/issues/2914: samples with an error left the denominator."""
    monkeypatch.setattr("dartlib.sampling.runner.FIRST_RETRY_SECONDS", 0.001)
    report = run(tmp_path, Flaky(), rates=[1.0] * 12)
    found = report.benchmarks["stub"]
    assert found["items"] == len(report.items) == sum(found["verdicts"].values()) == 12
    assert report.failed_requests > 0 and found["verdicts"]["error"] == 0


def test_nemo_skills_1531_broken_items_are_counted_apart(tmp_path: Path) -> None:
    """github.com/NVIDIA-NeMo/Skills/pull/1531: an item of the benchmark itself was wrong."""
    queries = numbered_queries([1.0, 1.0, 1.0, 0.0])
    bad = replace(queries[3], query_id=next(iter(broken_items())))
    found = run(tmp_path, StubEngine(), queries=[*queries[:3], bad]).benchmarks["stub"]
    assert found["scores"]["pass@1"]["value"] == 0.75  # comparable with what others publish
    assert found["without_broken"] == {"items": 3, "accuracy": 1.0}
    assert "1 broken items" in compare_results([tmp_path]).scores["marks"].iloc[0]


def test_s1_26_overlap_with_training_is_beside_the_score(tmp_path: Path) -> None:
    """github.com/simplescaling/s1/issues/26: training questions stood in MATH-500."""
    queries = numbered_queries([1.0] * 3)
    run(tmp_path, StubEngine(), queries=queries, training_texts=[query.query for query in queries[:2]])
    assert "2 items in its training set" in compare_results([tmp_path]).scores["marks"].iloc[0]


def test_lm_eval_3248_every_repeat_is_scored(tmp_path: Path) -> None:
    """github.com/EleutherAI/lm-evaluation-harness/pull/3248: repeats were drawn and only the first one scored."""
    report = run(tmp_path, StubEngine(), rates=[0.5] * 8, samples=4, temperature=0.7)
    recounted = (report.items["verdict"] == "correct").mean()
    assert report.benchmarks["stub"]["scores"]["avg@4"]["value"] == pytest.approx(recounted)
    first = (report.items[report.items["trial"] == 0]["verdict"] == "correct").mean()
    assert recounted != first  # else this test could not fail


def test_tensorrt_llm_18738_two_protocols_do_not_meet_by_accident(tmp_path: Path) -> None:
    """github.com/NVIDIA/TensorRT-LLM/pull/18738: one model, two GSM8K protocols, 90.6 and 97.2."""
    run(tmp_path / "a", StubEngine(), model="a")
    run(tmp_path / "b", StubEngine(), model="b", template=replace(TEMPLATE, before="Think. Q: "))
    with pytest.raises(ComparisonError, match="prompt_digest"):
        compare_results([tmp_path / "a", tmp_path / "b"])


def test_evalchemy_repeats_have_their_own_seeds(tmp_path: Path) -> None:
    """github.com/mlfoundations/evalchemy (by reading): forced greedy, its repeats were identical and their error 0."""
    seeds: list[int] = []

    class Noting(StubEngine):
        async def complete(self, prompt, sampling, seed):
            seeds.append(seed)
            return await super().complete(prompt, sampling, seed)

    queries = make_queries([{"query": "x rate 0.5", "reference_answer": "7"}], source="stub", version="1")
    run(tmp_path, Noting(), queries=queries, samples=16, temperature=0.7)
    assert len(set(seeds)) == 16
