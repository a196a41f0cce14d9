"""Drawn edits that change no result, each with the reason: no test can find them, so none is asked to.

Keyed by what stays where it is when other lines move: file, function, the line as it is, the line as it would be.
"""

from __future__ import annotations

PROOFS: dict[tuple[str, str, str, str], str] = {
    (
        "kernels/cpu/transforms.py",
        "_times",
        "found[i], found[twins[0]] = e.b.fadd(a, b), e.b.fsub(a, b)",
        "found[i], found[twins[0]] = e.b.fadd(b, a), e.b.fsub(a, b)",
    ): "A sum of two numbers is the same to the bit, whichever stands first.",
    (
        "kernels/cpu/transforms.py",
        "_times",
        "if not twins or not any(even) or not any(odd):",
        "if not twins or not any(even) or any(odd):",
    ): "Either branch gives the row times x; the second one saves operations where a row has a mirrored one.",
    (
        "kernels/cpu/transforms.py",
        "_both_sides",
        "size = range(len(matrix[0]))",
        "size = range(len(matrix[1]))",
    ): "All rows of a matrix are of one length, and each matrix has two rows.",
    (
        "kernels/cpu/winograd_weight_grad.py",
        "_products",
        "carray(pointer(0, no_offset), (1,))[0] = 0",
        "carray(pointer(0, no_offset), (2,))[0] = 0",
    ): "How long the view is decides nothing: its first word alone is written.",
    (
        "minunet/data/alignment.py",
        "without",
        "return np.where(counted, index, np.argmax(np.bincount(index[counted], minlength=1)))",
        "return np.where(counted, index, np.argmax(np.bincount(index[counted], minlength=2)))",
    ): "A class more that no pixel has is never the first of the most frequent: the first of all zeros is 0, too.",
    (
        "minunet/data/codes.py",
        "_counted",
        "above, below = max(top - 1, 0), min(bottom + 1, len(mask))",
        "above, below = max(top - 2, 0), min(bottom + 1, len(mask))",
    ): "What is counted of a row depends on it and the rows beside it, and `own` cuts off all rows above.",
    (
        "minunet/testing/argument.py",
        "Argument._own_error",
        "if gap > tolerance * size + unknown:",
        "if gap >= tolerance * size + unknown:",
    ): "One is a difference, the other has a measured noise in it: where they are equal to the last bit, either is right.",
    (
        "minunet/cli/outputs.py",
        "is_same",
        "return os.path.samefile(a, b)",
        "return os.path.samefile(b, a)",
    ): "Two paths are of one file whichever is named first.",
    (
        "minunet/evaluation/metrics.py",
        "confusion_matrix",
        "values = np.union1d(t, p) if classes is None else np.asarray(classes)",
        "values = np.union1d(p, t) if classes is None else np.asarray(classes)",
    ): "A union is sorted, whichever part comes first.",
    (
        "minunet/data/inflate.py",
        "_deflate",
        "raw = stream.decompress(data, most + 1)",
        "raw = stream.decompress(data, most + 2)",
    ): "That more comes out than there may be shows by one byte as well as by two.",
    (
        "minunet/data/pillow.py",
        "_require_png",
        'if name == b"IEND" or position > size:',
        'if name == b"IEND" or position >= size:',
    ): "Where a part ends with the file there is no head to read after it, so the walk is over either way.",
    (
        "minunet/data/sliced.py",
        "bands",
        "n, piece = max(1, BAND // row), image.rows_at_once if isinstance(image, Sliced) else 1",
        "n, piece = max(1, BAND // row), image.rows_at_once if isinstance(image, Sliced) else 2",
    ): "How many rows of an array are looked at together changes nothing of what is seen.",
    (
        "minunet/data/tiff.py",
        "_Reader._require_same_pages",
        "bits = first.number(258, 1)",
        "bits = first.number(258, 2)",
    ): "A number of one bit and one of two are both taken, and both count as a byte.",
    (
        "minunet/data/augment.py",
        "Augmentation._changed",
        'if drawn & {"contrast", "brightness"}:',
        'if drawn | {"contrast", "brightness"}:',
    ): "Of what is not drawn the factor is 1 and the shift 0, which change no pixel: it saves their time.",
    (
        "minunet/cli/train.py",
        "_require_table",
        "if outputs.is_same(path, other):",
        "if outputs.is_same(other, path):",
    ): "Two paths are of one file whichever is named first.",
    (
        "minunet/data/pairing.py",
        "pair",
        "_pair_by([(image, {image.name: 0}) for image in images], [(mask, {mask.name: 0}) for mask in masks], owner)",
        "_pair_by([(image, {image.name: 0}) for image in images], [(mask, {mask.name: 1}) for mask in masks], owner)",
    ): "All masks have this one number there, and of numbers it is only asked which is the least.",
}
