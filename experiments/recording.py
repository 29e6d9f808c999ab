"""Records on disk: the numbers of a cell, and the scores that they summarise."""

import hashlib
from dataclasses import replace

from safetensors.numpy import save

from experiments.store import Store
from splitbench.record import Record, Scores


def write_record(store: Store, record: Record, scores: Scores | None) -> Record:
    """Write a cell, the scores first, and return the record with their name and checksum."""
    if scores is None:
        store.write_cell(record.cell_id, record.to_json(), None)
        return record
    content = save(scores.arrays())
    record = replace(
        record,
        scores_file=f"{record.cell_id}.safetensors",
        scores_sha256=hashlib.sha256(content).hexdigest(),
    )
    store.write_cell(record.cell_id, record.to_json(), content)
    return record
