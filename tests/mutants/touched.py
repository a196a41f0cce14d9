"""Errors planted in the limits from which on a user is told something of masks or a training, in the catalogue's form."""

from __future__ import annotations

from .mutant import Row

DIAGNOSIS, SCHEDULE = "minunet/training/diagnosis.py", "minunet/training/schedule.py"
CODES, CONTRADICTIONS = "minunet/data/codes.py", "minunet/data/contradictions.py"
REGIONS, PIECES, APART = ("regions_are_of_nine",), ("pieces_are_counted",), ("how_far_values",)
NUMBERS, NINE, STRAYS, NAMED = ("how_many_numbers",), ("nine_objects",), ("strays",), ("three_masks",)
NOTHING, STEADY, LEARNED, HEART = ("95_percent",), ("above_is_a_tenth",), ("patches_are_learned",), ("learning_by_heart",)

OF_WHAT_IS_TOLD: list[Row] = [
    ("regions hold a little less of their pixels", CODES, "SOLID = 0.5", "SOLID = 0.45", REGIONS),
    ("regions hold more than half of their pixels", CODES, "alike[value] >= SOLID", "alike[value] > SOLID", REGIONS),
    ("19 values in 20 form regions", CODES, "0.9 * len(counts)", "0.95 * len(counts)", REGIONS),
    ("17 values in 20 form regions", CODES, "0.9 * len(counts)", "0.85 * len(counts)", REGIONS),
    ("33 values are few", CODES, "FEW_VALUES = 32", "FEW_VALUES = 33", PIECES),
    ("of 32 values the pieces are 0", CODES, "(numbers[0] > 0).sum() <= FEW_VALUES", "(numbers[0] > 0).sum() < FEW_VALUES",
     PIECES),
    ("a class of the number 21 is none", CONTRADICTIONS, "NUMBERED = 22", "NUMBERED = 21", STRAYS),
    ("a class has the number 22", CONTRADICTIONS, "NUMBERED = 22", "NUMBERED = 23", STRAYS),
    ("white is darker", CONTRADICTIONS, "NEAR = 0.1 ", "NEAR = 0.11 ", APART),
    ("even steps are less even", CONTRADICTIONS, "EVEN = 0.02", "EVEN = 0.022", APART),
    ("numbers far from classes are nearer", CONTRADICTIONS, "4 * NUMBERED", "3 * NUMBERED", APART),
    ("fewer objects are in one piece", CONTRADICTIONS, "SINGLE = 0.9 ", "SINGLE = 0.88 ", NINE),
    ("two numbers are objects", CONTRADICTIONS, "MIN_OBJECTS, MANY_OBJECTS = 3, 4", "MIN_OBJECTS, MANY_OBJECTS = 2, 4", NUMBERS),
    ("three numbers are surely objects", CONTRADICTIONS, "MIN_OBJECTS, MANY_OBJECTS = 3, 4", "MIN_OBJECTS, MANY_OBJECTS = 3, 3",
     NUMBERS),
    ("eleven numbers in all masks are objects", CONTRADICTIONS, "MANY_PIECES = 12", "MANY_PIECES = 11", NUMBERS),
    ("objects in several masks are fewer", CONTRADICTIONS, "1.5 * len(everything)", "1.6 * len(everything)", NUMBERS),
    ("gaps between objects are larger", CONTRADICTIONS, ">= 2 * len(everything)", "> 2 * len(everything)", NUMBERS),
    ("three values are strays", CONTRADICTIONS, "MAX_STRAYS = 2", "MAX_STRAYS = 3", STRAYS),
    ("strays are a third of the way off", CONTRADICTIONS, ".min()) / 4", ".min()) / 3", STRAYS),
    ("what is just within reach is a stray", CONTRADICTIONS, ".min() > reach", ".min() >= reach", STRAYS),
    ("two masks are named", CONTRADICTIONS, "SHOWN = 3", "SHOWN = 2", NAMED),
    ("a loss is lower by a little more", SCHEDULE, "LESS = 1e-4", "LESS = 1.1e-4", ("plateau_is_five",)),
    ("what lasts lasts less", DIAGNOSIS, "WINDOW = 200", "WINDOW = 150", ("what_lasts",)),
    ("what lasts lasts a third", DIAGNOSIS, "self.n_steps / 4", "self.n_steps / 3", ("what_lasts",)),
    ("what lasts lasts an epoch", DIAGNOSIS, "size = max(2, ", "size = max(1, ", ("what_lasts",)),
    ("a loss that stands falls", DIAGNOSIS, "FALLS = 0.02", "FALLS = 0.015", ("two_percent",)),
    ("nothing is a little more", DIAGNOSIS, "NOTHING, WEAK = 0.95, 0.85", "NOTHING, WEAK = 0.955, 0.85", NOTHING),
    ("weak is a little more", DIAGNOSIS, "NOTHING, WEAK = 0.95, 0.85", "NOTHING, WEAK = 0.95, 0.88", NOTHING),
    ("above is farther up", DIAGNOSIS, "ABOVE = 1.1 ", "ABOVE = 1.2 ", STEADY),
    ("what moves is steady", DIAGNOSIS, "STEADY = 1.1 ", "STEADY = 1.2 ", STEADY),
    ("wild is less wild", DIAGNOSIS, "WILD = 3.0", "WILD = 2.0", ("is_wild",)),
    ("faint answers are the same", DIAGNOSIS, "SAME = 1e-5", "SAME = 1e-3", ("ten_thousandth",)),
    ("rare is rarer", DIAGNOSIS, "RARE = 0.1 ", "RARE = 0.05 ", ("rare_is",)),
    ("good is better", DIAGNOSIS, "GOOD, FITS = 0.7, 0.3", "GOOD, FITS = 0.6, 0.3", LEARNED),
    ("what fits fits better", DIAGNOSIS, "GOOD, FITS = 0.7, 0.3", "GOOD, FITS = 0.7, 0.4", LEARNED),
    ("chance is less", DIAGNOSIS, "CHANCE = 0.1 ", "CHANCE = 0.05 ", ("chance_is",)),
    ("val_loss rises less", DIAGNOSIS, "RISEN, COSTS = 2.0, 0.5", "RISEN, COSTS = 1.8, 0.5", HEART),
    ("val_loss costs more", DIAGNOSIS, "RISEN, COSTS = 2.0, 0.5", "RISEN, COSTS = 2.0, 0.6", HEART),
    ("a loss falls farther", DIAGNOSIS, "FALLEN = 0.75", "FALLEN = 0.7", HEART),
    ("an epoch too late is half", DIAGNOSIS, "2 * (best + 1) <= len", "2 * best <= len", HEART),
    ("little is more", DIAGNOSIS, "LITTLE = 10.0", "LITTLE = 12.0", ("below_ten",)),
    ("the default rate is too low for the default", DIAGNOSIS, "rate < 1e-3", "rate <= 1e-3", ("steady_loss",)),
]  # fmt: skip
