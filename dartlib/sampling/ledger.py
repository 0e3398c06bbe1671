"""Which trials a pool holds and what their verdicts are, as arrays of numbers: 20 million trials take 180 MB."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dartlib.records import Counts, Verdict

VERDICTS = [verdict.value for verdict in Verdict]
UNGRADED = -1
_RIGHT = VERDICTS.index(Verdict.CORRECT.value)
_ROWS_AT_A_TIME = 65_536


@dataclass(frozen=True, slots=True)
class Ledger:
    """Which trials a pool holds, and their current verdicts: by query, then trial, no trial twice.

    ``owners`` are places in ``query_ids``; ``verdicts`` indexes Verdict, -1 where there is no current grade.
    """

    query_ids: Sequence[str]
    owners: npt.NDArray[np.int32]
    trials: npt.NDArray[np.int32]
    verdicts: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.trials)

    @property
    def ungraded(self) -> int:
        """How many trials have no current grade."""
        return int((self.verdicts == UNGRADED).sum())

    def graded_arrays(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """Owners, trials and whether they are correct, of the graded trials."""
        graded = self.verdicts != UNGRADED
        return self.owners[graded], self.trials[graded], self.verdicts[graded] == _RIGHT

    def verdict_counts(self) -> dict[str, int]:
        """How many trials have each verdict."""
        counts = np.bincount(self.verdicts[self.verdicts >= 0], minlength=len(VERDICTS))
        return dict(zip(VERDICTS, counts.tolist(), strict=True))

    def graded(self) -> Iterator[tuple[str, int, bool]]:
        """(query, trial, correct) of every graded trial, by query then trial."""
        arrays = self.graded_arrays()
        for start in range(0, len(arrays[0]), _ROWS_AT_A_TIME):
            rows = zip(*(array[start : start + _ROWS_AT_A_TIME].tolist() for array in arrays), strict=True)
            yield from ((self.query_ids[owner], trial, correct) for owner, trial, correct in rows)

    def counts(self) -> dict[str, Counts]:
        """(correct, trials) of every query, in the order of ``query_ids``."""
        size = len(self.query_ids)
        correct = np.bincount(self.owners[self.verdicts == _RIGHT], minlength=size)
        trials = np.bincount(self.owners, minlength=size)
        return dict(zip(self.query_ids, map(Counts, correct.tolist(), trials.tolist()), strict=True))
