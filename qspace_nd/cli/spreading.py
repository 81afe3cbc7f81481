"""Several labels after one --participant-label, as BIDS Apps take them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import click

LABELS = "--participant-label"


def spread(
    words: Sequence[str],
    valued: frozenset[str],
    arguments: int,
    is_label: Callable[[str], bool],
) -> Iterator[str]:
    """Turn `--participant-label 01 02` into the option, twice, with a label each.

    Parameters
    ----------
    words : sequence of str
        Of the command line.
    valued : frozenset of str
        The options that take a value.
    arguments : int
        The words that the command wants beside its options: until so many have come, a second word
        may be one of them,
    is_label : callable
        unless this says that it is a label.
    """
    option, labels, plain = "", 0, 0  # the last option, and how many labels have followed it
    for place, word in enumerate(words):
        name = word.replace("_", "-")
        if word == "--":
            yield from words[place:]
            return
        if word.startswith("-") and len(word) > 1:
            option, labels = name, 0
        elif option == LABELS and (not labels or plain >= arguments or is_label(word)):
            labels += 1
            if labels > 1:
                yield option
        elif option in valued and option != LABELS:
            option = ""  # this was its value
        else:
            option = ""
            plain += 1
        yield word


def valued_options(command: click.Command) -> frozenset[str]:
    """The names of a command's options that take a value."""
    return frozenset(
        name
        for param in command.params
        if isinstance(param, click.Option) and not (param.is_flag or param.count)
        for name in param.opts
    )
