"""What tables of models say, as the values of a record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from catalog.record import Evaluation, SourceDataset

_LOWER_IS_BETTER = frozenset({"wer", "cer", "perplexity", "end_point_error", "rmse", "abs_rel"})
_NO_PERCENT = frozenset({"perplexity", "end_point_error", "rmse", "abs_rel", "psnr", "ssim"})


def evaluations(
    task: str | None,
    dataset: str,
    said: Mapping[str, float | None],
    *,
    size: tuple[int, ...] | None = None,
    split: str | None = "validation",
    config: str | None = None,
    url: str | None = None,
) -> tuple[Evaluation, ...]:
    """An evaluation for each metric of which a figure is known; shares are in percent."""
    return tuple(
        Evaluation(
            task_type=task or "other",
            dataset=dataset,
            config=config,
            split=split,
            metric_type=metric,
            value=round(value, 4),
            unit=None if metric in _NO_PERCENT else "%",
            higher_is_better=metric not in _LOWER_IS_BETTER,
            eval_input_size=size,
            source_url=url,
        )
        for metric, value in said.items()
        if value is not None
    )


def trained_on(*first: str, then: Iterable[str] = ()) -> tuple[SourceDataset, ...]:
    """The data sets of the training, those of a later fine-tuning behind; each once."""
    tuned = tuple(then)
    return (
        *(SourceDataset(id=item, role="pretrain") for item in first if item not in tuned),
        *(SourceDataset(id=item, role="finetune") for item in tuned),
    )


def gmacs(operations: float | None, *, unit: float = 1e9, per_mac: int = 1) -> float | None:
    """1e9 multiply-accumulates; ``per_mac`` is 2 where a source counts both operations of one."""
    return round(operations * unit / 1e9 / per_mac, 5) if operations else None
