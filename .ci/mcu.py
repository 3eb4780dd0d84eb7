#!/usr/bin/env python3
"""Checks what a program for a microcontroller takes: `mcu.py ELF`, from its sections.

Flash is all that is loaded: vectors, code, constants with the model and the images, and what static
variables start from. The stack starts at the end of the RAM that the linker script gives, which the first
word of the vectors names; static variables are in the same RAM. So what a program uses is less than that.
"""
import struct
import sys

FLASH_LIMIT, RAM_LIMIT = 64 << 10, 16 << 10
RAM_START = 0x2000_0000
ALLOCATED, NO_BYTES = 2, 8


def sections(elf):
    """Name, type, flags, address and bytes of each section of a 32-bit ELF file."""
    start, = struct.unpack_from('<I', elf, 32)
    size, count, names = struct.unpack_from('<3H', elf, 46)
    rows = [struct.unpack_from('<6I', elf, start + i * size) for i in range(count)]
    for name, kind, flags, address, offset, length in rows:
        at = rows[names][4] + name
        yield elf[at:elf.index(b'\0', at)].decode(), kind, flags, address, offset, length


def main(path):
    with open(path, 'rb') as file:
        elf = file.read()
    flash = static = available = 0
    for name, kind, flags, address, offset, length in sections(elf):
        if not flags & ALLOCATED or not length:
            continue
        if kind != NO_BYTES:
            flash += length
            print(f'{name:<16}{length:>7} bytes')
        if address >= RAM_START:
            static += length
        if name == '.vector_table':
            available = struct.unpack_from('<I', elf, offset)[0] - RAM_START
    print(f'flash: {flash} bytes; {FLASH_LIMIT} are allowed')
    print(f'RAM: {static} bytes of static variables, {available} with the stack; {RAM_LIMIT} are allowed')
    return flash <= FLASH_LIMIT and static < available <= RAM_LIMIT


sys.exit(not main(sys.argv[1]))
