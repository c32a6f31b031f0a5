"""Names of classes and files: which ones are taken, and how one is shown in a line of text.

TFDS keeps the names of classes in a file of lines, strips each line and drops empty ones. So a name
is taken only if it comes back from there as it was, and if it can be printed.
"""

import collections
import unicodedata
from collections.abc import Iterable

import tensorflow_datasets as tfds

# Control characters, halves of a character (bytes that are not UTF-8), and ends of lines.
_NOT_TEXT = ("Cc", "Cs", "Zl", "Zp")


def is_plain(name: str) -> bool:
    r"""Whether a name is one line of text that can be printed and kept as it is.

    Example:
      >>> [is_plain(name) for name in ("tabby cat", "café", "", "cat ", "a\nb", "\udcff")]
      [True, True, False, False, False, False]
    """
    in_text = not any(unicodedata.category(character) in _NOT_TEXT for character in name)
    return bool(name) and in_text and name == name.strip()


def shown(name: str) -> str:
    r"""A name as part of a line: as it is, or in quotes and with escapes where it needs them.

    Example:
      >>> print(shown("tabby cat"), shown("a\nb"), shown("cat "))
      tabby cat 'a\nb' 'cat '
    """
    return name if is_plain(name) else ascii(name)


def name_some(names: Iterable[str], limit: int = 5) -> str:
    """Name a few of many, and say how many more there are.

    Example:
      >>> name_some("abcdefg", limit=3)
      'a, b, c and 4 more'
      >>> name_some([])
      'nothing'
    """
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(map(shown, names[:limit])) or "nothing") + more


def check_class_names(names: Iterable[str], where: str, remedy: str) -> None:
    """Refuses names of classes that would not be kept exactly.

    Args:
      names: of the classes.
      where: they come from, as the beginning of a sentence.
      remedy: what to do about it, as its end.

    Raises:
      ValueError: if one is empty, begins or ends with a blank, has a control character or an end
        of line in it, is not UTF-8, or is there twice.

    Example:
      >>> check_class_names(["cat", "dog"], "folder 'train'", "rename them")
      >>> try:
      ...     check_class_names(["a", "a"], "folder 'train'", "rename one")
      ... except ValueError as error:
      ...     print(error)
      folder 'train' has classes of the same name: a; rename one
    """
    counts = collections.Counter(names)
    wrong = [name for name in counts if not is_plain(name)]
    if wrong:
        raise ValueError(
            f"{where} has names of classes that cannot be kept as they are: {name_some(wrong)}; "
            "expected UTF-8 text without control characters, ends of lines, or blanks at either "
            f"end: {remedy}"
        )
    if twice := [name for name, count in counts.items() if count > 1]:
        raise ValueError(f"{where} has classes of the same name: {name_some(twice)}; {remedy}")


def class_names(builder: tfds.core.DatasetBuilder, label_key: str) -> tuple[str, ...]:
    """The names of the classes of a prepared data set.

    Args:
      builder: a prepared data set.
      label_key: name of the class label among its features.

    Returns:
      One name for each label; numbers where the data set has no names.

    Raises:
      ValueError: if the names on disk are not one for each label.

    Example:
      >>> import tempfile
      >>> from jaxws.data.sources.digits import Builder
      >>> from jaxws.data.sources.prepare import prepare
      >>> class_names(prepare(Builder(data_dir=tempfile.mkdtemp())), "label")[:3]
      ('0', '1', '2')
    """
    label = builder.info.features[label_key]
    where = f"the prepared data set in {str(builder.data_dir)!r}"
    if not label.num_classes:
        raise ValueError(f"{where} does not say how many classes it has: choose another one")
    names = tuple(label.names)
    remedy = "delete that directory and prepare the data set anew, with other names of classes"
    if len(names) != label.num_classes:
        raise ValueError(
            f"{where} has {label.num_classes} classes but {len(names)} names of classes "
            f"({name_some(names)}): {remedy}"
        )
    check_class_names(names, where, remedy)
    return names
