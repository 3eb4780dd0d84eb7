// Runs a program of WebAssembly under node: `node .ci/wasi.mjs program.wasm argument…`, from the root.
//
// The program sees `tests/golden` as `/golden`, and `QUANT_KERNEL`, but no other file and no other
// variable of the environment.
import { readFile } from 'node:fs/promises';
import process from 'node:process';
import { WASI } from 'node:wasi';

const [file, ...args] = process.argv.slice(2);
const env = { QUANT_GOLDEN_DIR: '/golden', RUST_BACKTRACE: '1' };
if (process.env.QUANT_KERNEL !== undefined) {
    env.QUANT_KERNEL = process.env.QUANT_KERNEL;
}
const golden = new URL('../tests/golden', import.meta.url).pathname;
const wasi = new WASI({
    version: 'preview1',
    args: [file, ...args],
    env,
    preopens: { '/golden': golden },
    returnOnExit: true,
});
const module = await WebAssembly.compile(await readFile(file));
const instance = await WebAssembly.instantiate(module, wasi.getImportObject());
process.exitCode = wasi.start(instance);
