"""What is pulled: what counts as proven, the reconciler, the bulk start."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Final

from pydantic import Field

from topsync.base.settings.fields import EnvironmentSettings, PositiveSeconds, Seconds
from topsync.model.learned_allowance import LearningRules

DAY_SECONDS: Final = 86_400


class CoverageSettings(EnvironmentSettings):
    """Coverage: what counts as proven complete, and how windows are cut."""

    visibility_allowance_seconds: Seconds = Field(
        600,
        description="How late an order may appear in the platform's lists; younger time is never proven.",
    )
    visibility_learning: bool = Field(
        True,
        description="Whether the visibility allowance is raised by itself when the platform's lists are "
        "later than it allows for. How late they are is measured in any case.",
    )
    visibility_most_seconds: Seconds = Field(
        7200,
        le=DAY_SECONDS,
        description="The longest visibility allowance that is learnt: it is not raised beyond this. Too "
        "short: what appears later is claimed unseen. Too long: a few very late orders hold "
        "`complete_until` back by as much. Pulls reach back so far for an order that the lists lack.",
    )
    overlap_seconds: Seconds = Field(600, description="How far before a gap its replay begins.")
    window_seconds: int = Field(
        1800, ge=1, le=86400, description="Longest increment window that is asked for at once."
    )
    min_window_seconds: float = Field(
        4,
        ge=1,
        description="A window this short whose orders do not fit one page is paged instead of halved again.",
    )
    too_wide_wait_seconds: Seconds = Field(
        180, description="Wait after the platform found a window too wide, before asking for half of it."
    )
    page_size: int = Field(100, ge=10, le=100, description="Trades per list page.")
    stored_within_seconds: PositiveSeconds = Field(
        300,
        description="A window whose orders are not stored within this time is not proven, and tried again.",
    )

    @property
    def learning(self) -> LearningRules:
        """How the visibility allowance learns."""
        return LearningRules(self.visibility_learning, timedelta(seconds=self.visibility_most_seconds))


class ReconcilerSettings(EnvironmentSettings):
    """The reconciler: gaps, sweeps, replays."""

    sweep_interval_seconds: Seconds = Field(
        300, description="Time between two sweeps of a seller; 0 switches sweeps off."
    )
    push_lost_after_seconds: PositiveSeconds = Field(
        15, description="A push process that has written no proof for this long counts as lost."
    )
    gap_retry_seconds: PositiveSeconds = Field(
        60, description="Wait after a pull that did not prove a gap, before the gap is pulled again."
    )
    refetch_attempts: int = Field(
        45,
        ge=1,
        description="How often we ask again for an order that the platform does not show as announced. The "
        "waits grow from seconds to ten minutes; then the change is a dead letter. 45 attempts take six "
        "hours.",
    )
    bulk_from_seconds: Seconds = Field(
        1800,
        description="A backlog that would take longer than this by single calls is fetched by tasks of a "
        "hundred orders each, which the platform runs each half hour. A lower value saves calls and takes "
        "longer. 0: never by tasks.",
    )
    bulk_tasks: int = Field(100, ge=1, le=1000, description="Tasks of many orders that run at the same time.")
    bulk_poll_seconds: PositiveSeconds = Field(
        60, description="Time between two looks at tasks of many orders, while none is ready."
    )
    bulk_deadline_seconds: PositiveSeconds = Field(
        6 * 3600, description="A task of many orders that takes longer is given up."
    )
    reconcile_poll_seconds: PositiveSeconds = Field(
        1, description="How often connections, gaps and jobs are looked at."
    )
    reconcile_parallel_sellers: int = Field(
        32,
        ge=1,
        le=256,
        description="Sellers whose lists a reconciler reads at the same time. Too few: the calls that the "
        "budget allows are not used. Too many: memory.",
    )
    reconcile_waiting_sellers: int = Field(
        64,
        ge=0,
        le=1024,
        description="Sellers with a gap, or polled, that a reconciler has listed and that wait for the "
        "enrichers to store what is missing, while it lists others. Too few: where enrichers take seconds, "
        "the calls that the budget allows are not used. Too many: memory, and a statement each a second.",
    )
    measure_interval_seconds: PositiveSeconds = Field(
        30,
        description="How often a reconciler measures the whole installation, for the metrics of copies, lag, "
        "calls and bulk starts.",
    )
    reconcile_calm_seconds: Seconds = Field(
        60,
        description="How long after a reconciler joined the others give it its share of the sellers. Longer "
        "than the step of a rolling update takes, from a new pod's start to the end of the old; otherwise "
        "sellers move more than once. What nobody has is taken at once.",
    )


class BootstrapSettings(EnvironmentSettings):
    """The bulk start."""

    export_days: int = Field(
        90, ge=1, le=90, description="Days of orders to export, counted back from yesterday."
    )
    export_poll_seconds: PositiveSeconds = Field(60, description="Time between two looks at an export task.")
    export_deadline_seconds: PositiveSeconds = Field(
        6 * 3600, description="An export that takes longer is reported; the job goes on when it is run again."
    )
    export_max_bytes: int = Field(8 * 1024**3, ge=1024, description="Largest export file that is downloaded.")
    export_max_ratio: float = Field(
        200, gt=1, description="Largest ratio of unpacked to packed size that is accepted."
    )
    slice_orders: int = Field(
        100_000,
        ge=1,
        description="Orders of a bulk start that are exported by one task. Larger sellers get several, which "
        "the platform runs side by side. A day is never cut.",
    )
    bootstrap_parallel_sellers: int = Field(
        8,
        ge=1,
        le=64,
        description="Sellers of a bulk start that are counted, listed or pulled at the same time; the others "
        "wait for a turn, the smaller ones first.",
    )
    bootstrap_parallel_slices: int = Field(
        4,
        ge=1,
        le=64,
        description="Exports that are downloaded and loaded at the same time; each needs room for its file. "
        "All sellers' exports are requested and waited for at once.",
    )
    repair_tasks_from: int = Field(
        500,
        ge=1,
        description="So many unreadable lines in an export are fetched by tasks of a hundred orders, which "
        "the platform runs each half hour; fewer by single calls, at once.",
    )
    work_dir: Path = Field(
        Path("/var/lib/topsync"),
        description="Downloaded exports are in its folder `exports`, which other users cannot enter.",
    )

    @property
    def export_folder(self) -> Path:
        """Where downloaded exports lie."""
        return self.work_dir / "exports"

    def export_file(self, seller_id: int, slice_: int) -> Path:
        """Where the export of a seller's slice lies, from its download until it is loaded."""
        return self.export_folder / f"export-{seller_id}-{slice_}.zip"

    def export_files(self, seller_id: int) -> list[Path]:
        """All files that lie there of a seller, parts of downloads too, and those of former releases."""
        names = (f"export-{seller_id}-*.zip*", f"export-{seller_id}.zip*")
        return sorted(path for name in names for path in self.export_folder.glob(name))
