"""Optional filters, red flags, the truly-right estimate against a simulation, and the folder for the Hub."""

from __future__ import annotations

import doctest
import random
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from stub_run import SETTINGS, make

from dartlib.queries import Overlap
from dartlib.records import QueryOutcome, SftRow, read_records
from dartlib.synthesis import VerifierCard, curate, red_flag_table, red_flags, verifier
from dartlib.synthesis.card import CardTexts, data_card, front_page, size_category
from dartlib.synthesis.datasets import Tally
from dartlib.synthesis.red_flags import is_long, is_repetitive, lacks_reasoning
from dartlib.synthesis.verifier import RightShare, right_share_table, right_shares

CARD = VerifierCard((0.95, 0.93, 0.97), (0.9, 0.88, 0.92), 0.5, "a card made by hand")


def test_worked_examples_in_the_docstrings_hold() -> None:
    for module, examples in ((red_flags, 1), (verifier, 4)):
        result = doctest.testmod(module)
        assert (result.failed, result.attempted) == (0, examples)


def curated(rows: list[SftRow], **options) -> tuple[list[SftRow], dict[str, int]]:
    """What stays, and how many each filter dropped."""
    tally = Tally()
    return list(tally.kept(curate(rows, **options))), dict(tally.dropped)


def rows_of(*texts: str, query_id: str = "q") -> list[SftRow]:
    return [SftRow("query", text, query_id, number, "s", 1, 0.5, "vrt") for number, text in enumerate(texts)]


def test_filters_are_off_by_default() -> None:
    rows = rows_of("same", "same", "x")
    assert curated(rows) == (rows, {})


def test_exact_and_normalised_duplicates_keep_the_earliest_trial_of_each_query() -> None:
    texts = ("So x = 4. Done", "So x = 4. Done ", "so $x=4$.  **done**", "So x = 5. Done")
    kept, dropped = curated(rows_of(*texts), deduplicate="exact")
    assert [row.trial for row in kept] == [0, 2, 3] and dropped == {"duplicate": 1}
    kept, dropped = curated(rows_of(*texts), deduplicate="normalised")
    assert [row.trial for row in kept] == [0, 3] and dropped == {"duplicate": 2}
    two_queries = rows_of(texts[0]) + rows_of(texts[0], query_id="other")
    assert curated(two_queries, deduplicate="exact")[0] == two_queries


def test_flagged_rows_are_dropped_by_name_and_counted_once() -> None:
    loop = "we add one more and then again we go " * 5
    rows = rows_of("4", loop, loop, "4", "First 2 + 2 = 4, so the answer is 4.")
    kept, dropped = curated(rows, deduplicate="exact", drop=["no_reasoning", "repetitive"])
    assert [row.trial for row in kept] == [4]
    assert dropped == {"no_reasoning": 2, "repetitive": 2}
    with pytest.raises(ValueError, match="unknown red flag 'ugly'"):
        curated(rows, drop=["ugly"])
    with pytest.raises(ValueError, match="choose from off, exact, normalised"):
        curated(rows, deduplicate="fuzzy")


@given(st.lists(st.text(alphabet="ab \n$.", max_size=6), max_size=12), st.sampled_from(["off", "exact", "normalised"]))
def test_nothing_is_dropped_silently(texts: list[str], how: str) -> None:
    rows = rows_of(*texts)
    kept, dropped = curated(rows, deduplicate=how, drop=["no_reasoning"])
    assert len(kept) + sum(dropped.values()) == len(rows)
    assert [row.trial for row in kept] == sorted(row.trial for row in kept)


@pytest.mark.parametrize(
    ("flag", "flagged", "clean"),
    [
        (is_long, "word " * 1001, "word " * 1000),
        (is_repetitive, "a b c d e f g h " * 4, "a b c d e f g h " * 3),
        (is_repetitive, "So x" + "0" * 101, "So x" + "0" * 99),
        (lacks_reasoning, "The answer is 4.", "2 + 2 = 4. The answer is 4."),
        (
            lacks_reasoning,
            "one two three four five six seven eight nine",
            "one two three four five six seven eight nine ten",
        ),
    ],
)
def test_red_flags_at_their_limits(flag, flagged: str, clean: str) -> None:
    assert flag(flagged) and not flag(clean)


def test_red_flag_rates_by_level_with_intervals() -> None:
    table = red_flag_table(["4", "4", "2 + 2 = 4", "word " * 1001], [1, 1, 1, None]).set_index("group")
    assert table.loc["1", "responses"] == 3 and table.loc["1", "no_reasoning"] == pytest.approx(2 / 3)
    assert table.loc["none", "long"] == 1 and table.loc["none", "no_reasoning"] == 0
    # Wilson, 2 of 3: 0.2077 to 0.9385 (any statistics text)
    assert table.loc["1", "no_reasoning_low"] == pytest.approx(0.2077, abs=1e-4)
    assert table.loc["1", "no_reasoning_high"] == pytest.approx(0.9385, abs=1e-4)


def outcome(correct: int, trials: int, fail_rate: float) -> QueryOutcome:
    return QueryOutcome("q", "uniform", 1, 16, 0, fail_rate, 4, 64, trials, correct, "met")


def test_truly_right_share_by_hand() -> None:
    # recall 0.9, precision 0.9, half right: of 100 labelled, 45 of 50 right and 5 of 50 wrong ones accepted: q = 0.1
    card = VerifierCard((0.9, 0.9, 0.9), (0.9, 0.9, 0.9), 0.5, "by hand")
    # 100 trials, 26 accepted = 0.9 R + 0.1 (100 - R): R = 20; right among accepted = 18 / 26
    # 100 trials, 10 accepted: all by error
    shares = right_shares([outcome(26, 100, 0.7), outcome(10, 100, 1.0)], card)
    assert [(one.low_fail_rate, one.accepted, one.trials) for one in shares] == [(0.5, 26, 100), (0.95, 10, 100)]
    assert shares[0].share == pytest.approx(18 / 26) and shares[1].share == pytest.approx(0)
    assert right_shares([outcome(0, 64, 1.0)], card) == []


def test_truly_right_share_is_recovered_from_simulated_graders() -> None:
    """The truth is known here: responses are right with p, accepted with 0.95 or, when wrong, 0.02."""
    choose = random.Random(5)
    recall, false_acceptance, right = 0.95, 0.02, 0.6
    precision = recall * right / (recall * right + false_acceptance * (1 - right))
    card = VerifierCard((precision, precision - 0.005, precision + 0.005), (recall, 0.94, 0.96), right, "simulated")
    outcomes, truly, accepted = [], {0.75: 0, 0.95: 0}, {0.75: 0, 0.95: 0}
    for number in range(600):
        rate, bin_start = ((0.15, 0.75), (0.01, 0.95))[number % 2]
        count = 0
        for _ in range(200):
            is_right = choose.random() < rate
            if choose.random() < (recall if is_right else false_acceptance):
                count += 1
                truly[bin_start] += is_right
        accepted[bin_start] += count
        outcomes.append(outcome(count, 200, 1 - rate - 0.02))
    shares = {one.low_fail_rate: one for one in right_shares(outcomes, card)}
    for start in (0.75, 0.95):
        true_share = truly[start] / accepted[start]
        assert shares[start].low <= true_share <= shares[start].high
        assert shares[start].share == pytest.approx(true_share, abs=0.03)
    assert shares[0.95].share < 0.45 < 0.85 < shares[0.75].share  # the same verifier, harder queries


def test_a_card_without_right_and_wrong_responses_is_refused() -> None:
    with pytest.raises(ValueError, match="must hold right and wrong ones"):
        VerifierCard((0.9, 0.8, 1.0), (0.9, 0.8, 1.0), 1.0, "")
    with pytest.raises(ValueError, match="precision is 0.9"):
        VerifierCard((0.9, 0.95, 1.0), (0.9, 0.8, 1.0), 0.5, "")


def test_the_card_tells_truth_flags_and_what_was_dropped(tmp_path: Path) -> None:
    rows = rows_of("4", "2 + 2 = 4")
    text, tally = CardTexts("again", {}, {"teacher": "a/b", "teacher_weights": "f00"}), Tally()
    list(tally.kept(curate(rows)))
    tally.dropped["duplicate"] = 3
    card = data_card("uniform", tally, [outcome(2, 4, 0.5)], replace(text, verifier=CARD))
    assert "| 0.5 to 0.75 | 1 | 4 | 2 | " in card and "assuming that the verifier errs" in card
    assert "Dropped by filters: duplicate 3." in card and "50.0% (9.5% to 90.5%)" in card
    copies = [Overlap("math-test", 5000, 3, 589, 569, 13, ())]
    clean = data_card("uniform", tally, [outcome(2, 4, 0.5)], replace(text, overlaps=copies))
    assert "- math-test: 3 of 5000 questions whole, 589 sharing 13 words in a row (569 are shorter" in clean
    assert "## Benchmarks in the queries\n\nNot looked for." in card
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["teacher"] == {"name": "a/b", "weights": "f00"} and header["license"] == "other"
    assert header["size_categories"] == ["n<1K"] and card.split("---\n")[2].startswith("\n# uniform: 2 responses")
    assert "no verifier card was given" in data_card("uniform", tally, [outcome(2, 4, 0.5)], text)


def test_the_folder_is_a_data_set_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "run" / "datasets").mkdir(parents=True)
    (tmp_path / "run" / "datasets" / ".uniform.parquet.4242.tmp").write_text("of a killed run")
    report = make(tmp_path / "run")
    import datasets

    for strategy in SETTINGS.strategies:
        loaded = datasets.load_dataset(str(tmp_path / "run" / "datasets"), strategy, cache_dir=str(tmp_path / "cache"))
        rows = read_records(report.datasets[strategy], SftRow)
        assert loaded["train"].num_rows == len(rows) and loaded["train"][0]["response"] == rows[0].response
    assert not list((tmp_path / "run").rglob(".*.tmp"))
    header = yaml.safe_load((tmp_path / "run" / "datasets" / "README.md").read_text().split("---\n")[1])
    columns = header["dataset_info"][0]["features"]
    assert [column["name"] for column in columns] == list(SftRow.__dataclass_fields__)
    assert columns[6] == {"name": "pass_rate", "dtype": "float64"} and columns[3]["dtype"] == "int64"


@pytest.mark.parametrize(
    ("rows", "name"),
    [
        (0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (590_705, "100K<n<1M"), (1_000_000, "1M<n<10M"),
        (9_999_999, "1M<n<10M"), (25_000_000, "10M<n<100M"), (10**9, "1B<n<10B"), (10**12 - 1, "100B<n<1T"),
        (10**12, "n>1T"),
    ],
)  # fmt: skip
def test_sizes_are_told_by_the_hubs_own_names(rows: int, name: str) -> None:
    assert size_category(rows) == name
    assert f"- {name}\n" in front_page({"uniform": rows}, {})


def test_an_estimate_that_could_be_anything_is_not_told() -> None:
    told = right_share_table(
        [RightShare(0.0, 0.25, 3, 9, 8, 1.0, 0.99, 1.0), RightShare(0.95, 1.0, 3, 99, 1, 1.0, 0.0, 1.0)]
    )
    assert "100.0% (99.0% to 100.0%)" in told
    assert told.splitlines()[-1] == "| 0.95 to 1 | 3 | 99 | 1 | not known: anything from 0.0% to 100.0% |"
