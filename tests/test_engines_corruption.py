"""A real vLLM child behind a proxy that corrupts a third of its replies: only what the child sent is ever stored."""

from __future__ import annotations

import random
import threading
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import httpx
import pytest
from stub_run import pool_rows
from stub_servers import CORRUPTIONS, Sent, StubServer, corrupted

from dartlib.engines import SamplingParameters, endpoints, open_engine, run
from dartlib.queries import get_template, load_queries
from dartlib.records import QueryOutcome, SftRow, read_records
from dartlib.sampling import open_pool
from dartlib.synthesis import StrategySettings, synthesize

SETTINGS = StrategySettings(("vrt", "uniform", "prop2diff"), 6, 6, 3, 6, 14)
REQUEST_SECONDS = 12.0
pytestmark = [pytest.mark.model, pytest.mark.timeout(900)]


class CorruptingProxy(StubServer):
    """Passes requests on to a server on a Unix socket and a share of its replies back corrupted.

    ``sent`` has, per seed (each trial has its own), what the child answered; ``done`` counts the corruptions.
    """

    def __init__(self, socket: Path, share: float) -> None:
        limits = httpx.Limits(max_keepalive_connections=0)
        self.client = httpx.Client(transport=httpx.HTTPTransport(uds=str(socket), limits=limits), timeout=120)
        self.share, self.random, self.lock = share, random.Random(5), threading.Lock()
        self.sent: dict[int, list[tuple[str, str, int]]] = defaultdict(list)
        self.done: Counter[str] = Counter()
        super().__init__()

    def get(self, path: str) -> Sent:
        return Sent(200, self.client.get(f"http://child{path}").content)

    def post(self, path: str, body: dict[str, Any]) -> Sent:
        response = self.client.post(f"http://child{path}", json=body)
        if response.status_code != 200 or not path.endswith("/completions"):
            return Sent(response.status_code, response.content)
        reply = response.json()
        choice = reply["choices"][0]
        with self.lock:
            told = (choice["text"], choice["finish_reason"], reply["usage"]["completion_tokens"])
            self.sent[body["seed"]].append(told)
            if self.random.random() >= self.share:
                return Sent(200, reply)
            kind = CORRUPTIONS[self.done.total() % len(CORRUPTIONS)]  # in turn, so that each kind comes
            if kind == "past_stop" and choice["finish_reason"] == "length":
                kind = "twice"  # what max_tokens cut has nothing behind it
            self.done[kind] += 1
        return corrupted(kind, reply, late=REQUEST_SECONDS + 2)


def test_what_is_stored_is_what_the_child_sent_and_quotas_are_exact(embedded: Path, tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    queries = load_queries("ladder-arithmetic", split="train", queries_per_level=4, seed=1)
    with open_engine("vllm", str(embedded), log_folder=tmp_path) as child:
        assert isinstance(child, endpoints.EndpointEngine)
        proxy = CorruptingProxy(Path(child._endpoints[0].client._transport._pool._uds), share=0.33)  # type: ignore[attr-defined]
        engine = run(endpoints.connect([proxy.url], slots=24, request_seconds=REQUEST_SECONDS))
        try:
            report = synthesize(
                queries,
                engine=engine,
                template=get_template("ladder-fewshot"),
                sampling=SamplingParameters(0.8, 1.0, 48),
                sampling_seed=1,
                settings=SETTINGS,
                output_folder=tmp_path,
                rebuild="this test",
                licences={"teacher": "SmolLM2: Apache-2.0"},
            )
        finally:
            run(engine.close())
            proxy.stop()
    assert set(proxy.done) == set(CORRUPTIONS) and min(proxy.done.values()) >= 3, proxy.done
    assert report.sampling.stuck == []
    trials = open_pool(report.sampling.pool).trials().to_pylist()
    for row in trials:
        told = [one[:2] for one in proxy.sent[row["seed"]]]
        assert (row["response"], row["finish_reason"]) in told
        assert row["n_tokens"] in {one[2] for one in proxy.sent[row["seed"]]} or row["n_tokens"] == -(
            -len(row["response"].encode()) // 4
        )  # estimated where the count was corrupted
    outcomes = read_records(tmp_path / "outcomes.parquet", QueryOutcome)
    assert len(outcomes) == 60 and {outcome.status for outcome in outcomes} <= {"met", "cap", "drawn"}
    texts = pool_rows(tmp_path)
    for outcome in outcomes:
        if outcome.quota is not None:
            assert (
                (outcome.n_correct == outcome.quota)
                if outcome.status == "met"
                else (outcome.n_correct < outcome.quota and outcome.n_trials == SETTINGS.trial_cap)
            )
    for strategy in SETTINGS.strategies:
        data = read_records(tmp_path / "datasets" / f"{strategy}.parquet", SftRow)
        assert len(data) == sum(outcome.n_correct for outcome in outcomes if outcome.strategy == strategy) > 0
        assert all(texts[row.query_id, row.trial].strip() == row.response for row in data)
    print(f"{len(trials)} trials from {sum(map(len, proxy.sent.values()))} replies, corrupted: {dict(proxy.done)}")
