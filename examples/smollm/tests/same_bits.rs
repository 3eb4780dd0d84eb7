//! The same logits, bit for bit: whatever the kernel, the threads, the batch, and how many tokens come at
//! a time.

mod tiny;

use std::process::{Child, Command, Stdio};

use quant::kernel::Kernel;
use quant::kernel::scheme::KeyValueScheme;
use smollm::{Buffers, Checkpoint, Llama, Logits, Scheme, Step};
use tiny::{SCHEMES, prompt, tiny};

fn models() -> impl Iterator<Item = (Scheme, KeyValueScheme, Llama)> {
    SCHEMES.into_iter().flat_map(|scheme| {
        KeyValueScheme::ALL.map(|keys_values| (scheme, keys_values, tiny(scheme, keys_values)))
    })
}

/// The bits of the logits of all tokens, which come `at_once` at a time.
fn logits(model: &Llama, tokens: &[u32], at_once: usize) -> Vec<u32> {
    let mut sequence = model.sequence(tokens.len()).unwrap();
    let (mut buffers, mut all) = (Buffers::default(), Vec::new());
    for tokens in tokens.chunks(at_once) {
        let mut steps = [Step { tokens, sequence: &mut sequence }];
        let logits = model.forward(&mut steps, Logits::All, &mut buffers).unwrap();
        all.extend(logits.iter().map(|logit| logit.to_bits()));
    }
    all
}

#[test]
fn one_prefill_is_token_by_token() {
    for (scheme, keys_values, model) in models() {
        let tokens = prompt(1, 40);
        let whole = logits(&model, &tokens, 40);
        for at_once in [1, 3, 17] {
            assert!(
                logits(&model, &tokens, at_once) == whole,
                "{scheme:?} {keys_values} {at_once}"
            );
        }
    }
}

#[test]
fn a_batch_is_each_sequence_alone() {
    for (scheme, keys_values, model) in models() {
        let prompts = [prompt(1, 40), prompt(2, 1), prompt(3, 13)];
        let alone: Vec<u32> =
            prompts.iter().flat_map(|tokens| logits(&model, tokens, tokens.len())).collect();
        let mut sequences = [40, 1, 13].map(|capacity| model.sequence(capacity).unwrap());
        let steps = prompts.iter().zip(&mut sequences);
        let mut steps: Vec<_> = steps.map(|(tokens, sequence)| Step { tokens, sequence }).collect();
        let mut buffers = Buffers::default();
        let together = model.forward(&mut steps, Logits::All, &mut buffers).unwrap();
        let together: Vec<u32> = together.iter().map(|logit| logit.to_bits()).collect();
        assert!(together == alone, "{scheme:?} {keys_values}");
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    for (scheme, keys_values, model) in models() {
        let tokens = prompt(4, 48);
        let by_threads = [1, 2, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| logits(&model, &tokens, 48))
        });
        assert!(by_threads[0] == by_threads[1], "{scheme:?} {keys_values}");
        assert!(by_threads[0] == by_threads[2], "{scheme:?} {keys_values}");
    }
}

#[test]
fn the_last_logits_are_the_last_of_all() {
    let model = tiny(Scheme::Int8, KeyValueScheme::Int8);
    let tokens = prompt(5, 20);
    let all = logits(&model, &tokens, 20);
    let mut sequence = model.sequence(20).unwrap();
    let mut steps = [Step { tokens: &tokens, sequence: &mut sequence }];
    let mut buffers = Buffers::default();
    let last = model.forward(&mut steps, Logits::Last, &mut buffers).unwrap();
    let last: Vec<u32> = last.iter().map(|logit| logit.to_bits()).collect();
    assert!(all.ends_with(&last) && !last.is_empty());
}

/// Prints checksums of what all models say, in a process that the test below starts for each kernel.
#[test]
#[ignore = "run by `every_kernel_says_the_same`"]
fn prints_checksums() {
    for (scheme, keys_values, model) in models() {
        println!("checksum {scheme:?} {keys_values} {:016x}", checksum(&model, &prompt(6, 50)));
    }
    if let Some(file) = std::env::var_os("QUANT_SMOLLM") {
        let checkpoint = Checkpoint::open(file.as_ref()).unwrap();
        for scheme in [Scheme::AsStored, Scheme::WeightOnly] {
            let model = checkpoint.model(scheme, KeyValueScheme::Int8).unwrap();
            let tokens: Vec<u32> = (0..5).map(|i| 1000 + i * 2003).collect();
            println!("checksum {scheme:?} of the file {:016x}", checksum(&model, &tokens));
        }
    }
}

fn checksum(model: &Llama, tokens: &[u32]) -> u64 {
    let add = |sum: u64, bits| (sum ^ u64::from(bits)).wrapping_mul(0x100_0000_01b3);
    logits(model, tokens, tokens.len()).into_iter().fold(0xcbf2_9ce4_8422_2325, add)
}

fn start(kernel: Kernel) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "prints_checksums", "--ignored", "--nocapture", "--test-threads", "1"])
        .env("QUANT_KERNEL", kernel.name())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn every_kernel_says_the_same() {
    // All at once: most of what a process does is done by one thread.
    let started: Vec<_> = Kernel::available().map(|kernel| (kernel, start(kernel))).collect();
    let sums = started.into_iter().map(|(kernel, child)| {
        let output = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        let lines = output.lines();
        let sums = lines.filter_map(|line| Some(line.split_once("checksum ")?.1.to_owned()));
        (kernel, sums.collect::<Vec<_>>())
    });
    let sums: Vec<_> = sums.collect();
    let (first, expected) = &sums[0];
    assert_eq!(*first, Kernel::SCALAR);
    assert!(expected.len() >= SCHEMES.len() * KeyValueScheme::ALL.len());
    for (kernel, found) in &sums {
        assert_eq!(found, expected, "{kernel}");
    }
}
