#!/usr/bin/env python3
"""Edits one string of every YAML file below some directories with `towpath edit`, and asks PyYAML
whether that string changed and nothing else did.

    cargo build && python3 -m venv venv && venv/bin/pip install pyyaml
    venv/bin/python benches/edit-against-pyyaml.py target/debug/towpath DIR...

Files are taken once by content, the string and its new value are chosen by the file's content, so
two runs agree. Prints how many edits were right, refused, or wrong; ends with 1 if any was wrong.
"""

import collections
import concurrent.futures
import hashlib
import os
import random
import subprocess
import sys
import tempfile

import yaml

# Some that YAML would take for something else than a string unless they are quoted.
VALUES = ["1.4.2", "1.10", "v2", "true", "a: b # c", "it's", "@x", "2026-01-01", "0x1f", "refs/tags/ü"]
# `towpath edit` takes larger ones; PyYAML needs minutes for them.
BYTES_MAX = 400_000


class Loader(yaml.CSafeLoader):
    """Reads tags that it does not know as what they are tagged on."""


def tagged(loader, suffix, node):
    if isinstance(node, yaml.ScalarNode):
        return ("!", suffix, node.value)
    if isinstance(node, yaml.SequenceNode):
        return ["!", suffix, *loader.construct_sequence(node, deep=True)]
    return {"!": suffix, **loader.construct_mapping(node, deep=True)}


Loader.add_multi_constructor("", tagged)


def strings(value, path=()):
    """The paths of all strings."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(key, str):
                yield from strings(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from strings(inner, (*path, index))
    elif isinstance(value, str) and path:
        yield path


def put(value, path, new):
    """A copy with another value at a path."""
    if not path:
        return new
    if isinstance(value, dict):
        return {key: put(inner, path[1:], new) if key == path[0] else inner for key, inner in value.items()}
    return [put(inner, path[1:], new) if index == path[0] else inner for index, inner in enumerate(value)]


def check(towpath, path, raw, scratch):
    """What became of one file, and the words for it."""
    try:
        before = list(yaml.load_all(raw, Loader))
    except Exception as error:
        return "not read by PyYAML", str(error)[:80]
    seed = hashlib.sha1(raw).hexdigest()
    chance = random.Random(seed)
    choices = [(index, way) for index, document in enumerate(before) for way in strings(document)]
    if not choices:
        return "without a string", ""
    document, way = chance.choice(choices)
    new = chance.choice(VALUES)
    pointer = "".join("/" + str(it).replace("~", "~0").replace("/", "~1") for it in way)
    copy = os.path.join(scratch, seed + ".yaml")
    with open(copy, "wb") as file:
        file.write(raw)
    command = [towpath, "edit", copy, "--document", str(document), "--", pointer, new]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=scratch)
    with open(copy, "rb") as file:
        edited = file.read()
    os.remove(copy)
    if ended.returncode == 65:
        return ("refused" if edited == raw else "WRONG: refused, and changed"), ended.stderr.splitlines()[0]
    if ended.returncode != 0:
        return "WRONG: an error", ended.stderr[:200]
    wanted = [put(it, way, new) if index == document else it for index, it in enumerate(before)]
    try:
        after = list(yaml.load_all(edited, Loader))
    except Exception as error:
        return "WRONG: broken", f"{pointer} {new}: {error}"[:200]
    # By their words: 1 and True are equal, and so are 1.0 and 1; NaN is not even equal to itself.
    return ("right", "") if repr(after) == repr(wanted) else ("WRONG: something else changed", f"{pointer} {new}")


def main(towpath, *directories):
    files, seen = [], set()
    for directory in directories:
        for folder, _, names in os.walk(directory):
            for name in names:
                path = os.path.join(folder, name)
                if not name.endswith((".yml", ".yaml")) or not os.path.isfile(path):
                    continue
                if os.path.getsize(path) > BYTES_MAX:
                    continue
                with open(path, "rb") as file:
                    raw = file.read()
                digest = hashlib.sha1(raw).digest()
                if digest not in seen:
                    seen.add(digest)
                    files.append((path, raw))
    towpath = os.path.abspath(towpath)
    counts, examples = collections.Counter(), collections.defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch, concurrent.futures.ThreadPoolExecutor(2) as pool:
        for (path, _), (kind, words) in zip(files, pool.map(lambda it: check(towpath, *it, scratch), files)):
            counts[kind] += 1
            examples[kind].append(f"{path}: {words}")
    print(f"{len(files)} different files")
    for kind, count in counts.most_common():
        print(f"{count:8} {kind}")
        if kind != "right" and kind != "without a string":
            print("".join(f"           {it}\n" for it in examples[kind][:5]), end="")
    return int(any(kind.startswith("WRONG") for kind in counts))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
