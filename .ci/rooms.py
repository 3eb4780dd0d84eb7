#!/usr/bin/env python3
"""Checks that imports run down: `rooms.py [ROOT]`, against `docs/rooms.txt`.

- A crate depends on crates above it in `rooms.txt` only, by the normal dependencies of its
  `Cargo.toml`.
- A module imports modules above it in the same list only. In a folder that has no list, at most
  three modules may import each other in a circle, as a type and its parts do.

Re-exports are followed to the module that they are from, and paths outside of `use` count as well.
A module and the modules inside it may import each other; tests are left out. Prints each import
that runs up, with the names that tie it, and exits with 1.
"""
import os
import re
import sys
import tomllib


LARGEST_CIRCLE = 3


class Crate:
    """The modules of a crate, by path, and what they import."""

    def __init__(self, name, root):
        self.name = name.replace('-', '_')
        self.files = {}
        for folder, _, names in os.walk(root):
            for file in names:
                parts = os.path.relpath(os.path.join(folder, file), root)[:-3].split(os.sep)
                if file.endswith('.rs') and parts[0] != 'bin':
                    module = tuple(parts[:-1] if parts[-1] in ('mod', 'lib', 'main') else parts)
                    self.files[module] = os.path.join(folder, file)
        self.text = {}
        for module, file in self.files.items():
            with open(file, encoding='utf-8') as source:
                self.text[module] = code(source.read())
        self.drop_tests()
        self.uses = {module: list(self.use_items(module)) for module in self.files}

    def drop_tests(self):
        """Leaves out files that are modules of tests."""
        for module in sorted(self.files):
            if module not in self.files:
                continue
            for test in re.findall(r'#\[cfg\((?:all\()?test\b[^\]]*\]\s*mod (\w+);', self.text[module]):
                for inner in [m for m in self.files if m[:len(module) + 1] == module + (test,)]:
                    del self.files[inner], self.text[inner]

    def use_items(self, module):
        """Paths in `use` items, and the names that they are given."""
        for tree in re.findall(r'\buse\s+([^;]+);', self.text[module]):
            yield from leaves(tree)

    def inline_paths(self, module):
        text = re.sub(r'\buse\s+[^;]+;', '', self.text[module])
        own = r'\b(?:crate|super|self|%s)(?:::\w+)+' % self.name
        return [path.split('::') for path in re.findall(own, text)]

    def resolve(self, module, path, seen=()):
        """The module that has what a path names, or None if that is outside of the crate."""
        at, rest = list(module), list(path)
        if rest[0] in ('crate', self.name):
            at, rest = [], rest[1:]
        elif rest[0] in ('self', 'super'):
            while rest and rest[0] in ('self', 'super'):
                at = at[:-1] if rest[0] == 'super' else at
                rest = rest[1:]
        elif tuple(at + rest[:1]) not in self.files:
            return None
        while rest and tuple(at + rest[:1]) in self.files:
            at, rest = at + rest[:1], rest[1:]
        at = tuple(at)
        if not rest or at not in self.files or (at, rest[0]) in seen:
            return at if at in self.files else None
        return self.origin(at, rest[0], (*seen, (at, rest[0]))) or at

    def origin(self, module, name, seen):
        """The module from which another imports or re-exports a name."""
        for path, known_as in self.uses[module]:
            if known_as == name:
                return self.resolve(module, path, seen)
        for path, known_as in self.uses[module]:
            if known_as == '*':
                source = self.resolve(module, path[:-1], seen)
                if source is not None and self.defines(source, name):
                    return source
        return None

    def defines(self, module, name):
        item = r'\b(?:fn|struct|enum|union|trait|type|const|static|mod|macro_rules!)\s+%s\b'
        return re.search(item % re.escape(name), self.text[module]) is not None

    def imports(self):
        """module -> {module: names}, without those between a module and what is inside it."""
        arrows = {}
        for module in self.files:
            used = [path for path, _ in self.uses[module]] + self.inline_paths(module)
            for path in used:
                path = path[:-1] if path[-1] == '*' else path
                target = self.resolve(module, path)
                if target is None or contains(target, module) or contains(module, target):
                    continue
                arrows.setdefault(module, {}).setdefault(target, set()).add(self.name_in(path))
        return arrows

    def name_in(self, path):
        """What a path names: an item of a type, as in `Grid::new`, is named by the type."""
        names = [name for name in path if name[0].isupper()]
        return names[0] if names else path[-1]


def contains(outer, inner):
    return inner[:len(outer)] == outer


def code(source):
    """Rust without comments, strings and inline modules of tests."""
    source = re.sub(
        r'//[^\n]*|/\*.*?\*/|b?r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|\'(?:\\.[^\']*|[^\'\\])\'',
        ' ', source, flags=re.S)
    while tests := re.search(r'#\[cfg\((?:all\()?test\b[^\]]*\]\s*mod\s+\w+\s*\{', source):
        end, depth = tests.end(), 1
        while depth and end < len(source):
            depth += {'{': 1, '}': -1}.get(source[end], 0)
            end += 1
        source = source[:tests.start()] + source[end:]
    return source


def leaves(tree, prefix=()):
    """The paths of a `use` tree, each with the name that it is known by."""
    tree = tree.strip()
    group = re.fullmatch(r'((?:\w+::)*)\{(.*)\}', tree, re.S)
    if group:
        prefix = (*prefix, *group.group(1).split('::')[:-1])
        for item in split(group.group(2)):
            yield from leaves(item, prefix)
        return
    path, _, alias = (part.strip() for part in tree.partition(' as '))
    path = [*prefix, *path.removeprefix('::').split('::')]
    if path[-1] == 'self' and len(path) > 1:
        path.pop()
    yield path, alias or path[-1]


def split(items):
    """Splits at commas outside of braces."""
    depth, start = 0, 0
    for at, char in enumerate(items + ','):
        depth += {'{': 1, '}': -1}.get(char, 0)
        if char == ',' and depth == 0:
            if items[start:at].strip():
                yield items[start:at]
            start = at + 1


def written_order(file):
    """crate -> {folder: {room: rank}}, crates in order.

    A line has a crate or rooms, indented by two spaces a level, and after two more spaces what they
    are for. Rooms of one line do not import each other.
    """
    order, stack = {}, []
    with open(file, encoding='utf-8') as lines:
        for line in lines:
            if not line.strip() or line.startswith('#'):
                continue
            depth = (len(line) - len(line.lstrip())) // 2
            names = re.split(r'\s{2,}', line.strip())[0].split(', ')
            stack[depth:] = [names[-1]]
            if depth == 0:
                order[names[0]] = {}
                continue
            ranks = order[stack[0]].setdefault(tuple(stack[1:depth]), {})
            rank = max(ranks.values(), default=-1) + 1
            ranks.update({name: rank for name in names})
    return order


def crate_errors(root, order):
    """Dependencies of crates that run up."""
    found = [d for d in sorted(os.listdir(root))
             if d.startswith('quant') and os.path.isfile(os.path.join(root, d, 'Cargo.toml'))]
    for crate in found:
        if crate not in order:
            yield f'{crate} is not in the order'
            continue
        with open(os.path.join(root, crate, 'Cargo.toml'), 'rb') as file:
            manifest = tomllib.load(file)
        above = list(order)[:list(order).index(crate)]
        for name in manifest.get('dependencies', {}):
            if name in found and name not in above:
                yield f'{crate} depends on {name}, which is not above it'
    for crate in order:
        if crate not in found:
            yield f'{crate} is in the order, but not in the workspace'


def module_errors(crate, name, order):
    """Imports that run up, rooms that are listed nowhere, and circles where nothing is listed."""
    for folder, ranks in order.items():
        here = {m[len(folder)] for m in crate.files if m[:len(folder)] == folder and m != folder}
        for room in sorted(here - set(ranks)):
            yield f'{name}: {"/".join([*folder, room])} is not in the order'
        for room in sorted(set(ranks) - here):
            yield f'{name}: {"/".join([*folder, room])} is in the order, but not in the crate'
    arrows = crate.imports()
    unordered = {}
    for module, targets in sorted(arrows.items()):
        for target, names in sorted(targets.items()):
            level = len(os.path.commonprefix([module, target]))
            ranks = order.get(module[:level])
            if ranks is None:
                unordered.setdefault(module, {})[target] = names
            elif not {module[level], target[level]} <= set(ranks):
                continue  # A room without a place has been named above.
            elif ranks[module[level]] <= ranks[target[level]]:
                yield f'{name}: {tie(crate, module, target, names)}'
    for circle in circles(unordered):
        if len(circle) <= LARGEST_CIRCLE:
            continue
        yield f'{name}: a circle of {len(circle)} files'
        for module in circle:
            for target in sorted(set(unordered[module]) & set(circle)):
                yield f'    {tie(crate, module, target, unordered[module][target])}'


def tie(crate, module, target, names):
    src = os.path.commonpath(list(crate.files.values()))
    files = [os.path.relpath(crate.files[each], src) for each in (module, target)]
    return f'{files[0]} imports {files[1]}: {", ".join(sorted(names))}'


def circles(arrows):
    """Modules that reach each other, in groups."""
    def reached(start):
        seen, todo = set(), [start]
        while todo:
            for target in arrows.get(todo.pop(), {}):
                if target not in seen:
                    seen.add(target)
                    todo.append(target)
        return seen

    reach = {module: reached(module) for module in arrows}
    groups = {frozenset(m for m in reach[module] if module in reach.get(m, ()))
              for module in arrows if module in reach[module]}
    return sorted(sorted(group) for group in groups)


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), '..')
    order = written_order(os.path.join(root, 'docs', 'rooms.txt'))
    errors, modules = list(crate_errors(root, order)), 0
    for name, folders in order.items():
        source = os.path.join(root, name, 'src')
        if os.path.isdir(source):
            crate = Crate(name, source)
            modules += len(crate.files)
            errors += module_errors(crate, name, folders)
    print('\n'.join(errors + [f'{modules} modules of {len(order)} crates, {len(errors)} errors']))
    sys.exit(bool(errors))


main()
