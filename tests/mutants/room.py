"""Errors planted in what foretells whether a training fits into memory, in the catalogue's form."""

from __future__ import annotations

from .mutant import Row

ROOM, BUDGET, MEMORY, GROUPS = "minunet/room.py", "minunet/training/budget.py", "minunet/training/memory.py", "kernels/groups.py"
GROUP = ("strictest_of_a_group", "each_of_its_groups", "version_1", "swap_is_room")
FAILED = ("after_a_memory_error", "error_held", "gives_back")

IN_ROOM: list[Row] = [
    ("SGD has Adam's moments", MEMORY, "(1 + optimizer.n_moments + averages)", "(3 + averages)", ("estimates",)),
    ("what the second step adds is left out", MEMORY, 'range(2 if place == "cpu" else 1)', "range(1)", ("estimates",)),
    ("what is predicted meanwhile is left out", MEMORY, "book.keep(meanwhile)", "book.keep(0)", ("predicted_between",)),
    ("the groups around one's own do not count", GROUPS, "(below, *below.parents)", "(below,)", GROUP),
    ("groups of which a part is mounted are not known", GROUPS, "if group.is_relative_to(source) and", "if False and", GROUP),
    ("what the system keeps of files counts as taken", ROOM, "taken + sum(files) + more", "taken + more", GROUP),
    ("a group is killed above memory.high", ROOM, "Limit(GROUP, high, INFINITE,", "Limit(GROUP, high, high - taken,", GROUP),
    ("swap is room in a group that may have none", ROOM, "swap = min(swap, ", "swap = min(INFINITE, ", GROUP),
    ("what this process has is still to be had", ROOM, "has, has - own, INFINITE", "has, has, INFINITE", ("swap_is_room",)),
    ("the loosest limit counts", ROOM, "return min(_limits(place, root), key=lambda limit: limit.room)",
     "return max(_limits(place, root), key=lambda limit: limit.room)", GROUP),
    ("data is limited by what is mapped", ROOM, '("`ulimit -d`", 5)', '("`ulimit -d`", 0)', ("shell",)),
    ("what is not free is refused", BUDGET, "if takes > limit.room else", "if takes > limit.free else", ("only_not_free",)),
    ("advice leaves nothing over", BUDGET, "min(most, free / AMPLE)", "min(most, free)", ("largest_that_fits",)),
    ("what is only not free is to be a little less", BUDGET, "not found and self.takes > room", "not found", ("only_not_free",)),
    ("patches are advised that do not fit", BUDGET, "2**self.network.depth)  # all", "1)  # all", ("largest_that_fits",)),
    ("fewer channels are advised first", BUDGET, 'found = [self._largest(most, "patch_size", patches, batch_size=1)]',
     'found = [self._largest(most, "base_channels", channels)]', ("one_change",)),
    ("what an error holds stays", BUDGET, "                    step.tb_frame.clear()", "                    pass", FAILED),
    ("the cause of an error is not looked at", BUDGET, "error = error.__cause__ or error.__context__", "error = None", FAILED),
    ("a GPU keeps what it has", BUDGET, "    devices.give_back(place)", "    pass", FAILED),
]  # fmt: skip
