"""A run's towers as ONNX graphs: `TOWER.onnx`, with the names of the prepared tensors as inputs and `vectors` as output."""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmexp.errors import RequestError
from mmexp.exporting import inputs
from mmexp.exporting.subject import Subject
from mmexp.exporting.towers import Tower, farthest, prepared_rows, program, row_counts

TOLERANCE = 1e-5


def write(subject: Subject, folder: Path) -> None:
    """Write a graph for each tower. Raises RequestError where torch or ONNX cannot express one."""
    # What torch would miss in the middle is missed at once.
    import onnxscript  # noqa: F401

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    for name, tower in subject.towers.items():
        exported = program(tower)
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                graph: Any = torch.onnx.export(
                    exported, dynamo=True, verbose=False, input_names=tower.inputs, output_names=["vectors"]
                )
        except Exception as error:
            told = [line for line in str(error).splitlines() if "Error" in line] or [type(error).__name__]
            raise RequestError(f"{name}: ONNX cannot express this encoder: {told[0][:200]}") from error
        graph.save(folder / f"{name}.onnx", external_data=False)
    inputs.write(subject, folder)


def difference(subject: Subject, folder: Path) -> float:
    """Return how far what onnxruntime says is from the run's vectors, at most, of one row and of several.

    Texts go through the tokenizer that was written beside the graph.
    """
    return max(farthest(tower, _said(folder, tower)) for tower in subject.towers.values())


def _said(folder: Path, tower: Tower) -> dict[int, Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(folder / f"{tower.name}.onnx"), options, providers=["CPUExecutionProvider"]
    )
    prepared = {name: part.numpy() for name, part in inputs.as_others_prepare(tower, folder).items()}
    return {
        rows: torch.from_numpy(session.run(None, {name: part[:rows] for name, part in prepared.items()})[0])
        for rows in row_counts(prepared_rows(tower))
    }
