"""Which of the records to import are already in the store."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from trajtree.formats.import_sources import another_folder, without_folder
from trajtree.formats.import_tally import Tally
from trajtree.store.trajectory_store import TrajectoryStore


@dataclass(slots=True)
class Known:
    """The records in the store.

    For records from the files being imported, `stored` has the hashes of their bytes, by number from 1; 0 means that a
    record is not in the store. `elsewhere` has the sources of all other records by the hashes of their contents (or
    bytes, if the content's hash is unknown). Equal runs within the files being imported count separately; only records
    from other files can be the same ones under another name or in another form. A file with the same name in another
    folder is a different file.
    """

    stored: dict[str, array[int]] = field(default_factory=dict)
    elsewhere: dict[int, list[str]] = field(default_factory=dict)
    samples: dict[str, int] = field(default_factory=dict)

    def store(self, source: str, number: int, digest: int) -> None:
        digests = self.stored.setdefault(source, array("Q"))
        digests.frombytes(bytes(digests.itemsize * max(0, number + 1 - len(digests))))
        digests[number] = digest

    def digest_of(self, source: str, number: int) -> int:
        digests = self.stored.get(source, ())
        return digests[number] if number < len(digests) else 0

    def take(self, source: str, *hashes: int) -> bool | None:
        """Whether a record with these hashes is in the store from elsewhere; if so, it is used up.

        None if there is an equal one, but from a file with the same name in another folder.
        """
        answer: bool | None = False
        for found in hashes:
            others = self.elsewhere.get(found, ())
            for index, other in enumerate(others):
                if not another_folder(source, other):
                    del self.elsewhere[found][index]
                    return True
                answer = None
        return answer


def look_into(store: TrajectoryStore, at_hand: list[str], tally: Tally) -> Known:
    """The records in a store, given the names of the sources being imported; also counts its tasks.

    Raises:
        DataError: naming file, line and field of the first line that is not a trajectory.
    """
    known, kept = Known(), dict[str, str]()
    names = {without_folder(name): name for name in reversed(at_hand)} | {name: name for name in at_hand}
    for head in store.heads():
        known.samples[head.task] = max(known.samples.get(head.task, 0), head.sample + 1)
        tally.tasks[head.task] += 1
        if head.place is None:
            continue
        source, number, _, digest, content = head.place
        if source in names:
            known.store(names[source], number, int(digest, 16))
        else:
            known.elsewhere.setdefault(int(content, 16), []).append(kept.setdefault(source, source))
    return known


__all__ = ["Known", "look_into"]
