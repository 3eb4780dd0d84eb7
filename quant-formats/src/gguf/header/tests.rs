use super::super::metadata::{ValueType, parsed_pair, string, string_pair};
use super::*;

fn u32_pair(key: &str, value: u32) -> Vec<u8> {
    parsed_pair(key, ValueType::U32, &value.to_string()).unwrap()
}

/// The bytes of a tensor's description.
fn info(name: &str, extents: &[u64], ty: u32, offset: u64) -> Vec<u8> {
    let mut bytes = string(name);
    bytes.extend((extents.len() as u32).to_le_bytes());
    extents.iter().for_each(|extent| bytes.extend(extent.to_le_bytes()));
    bytes.extend(ty.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}

fn file(pairs: &[Vec<u8>], infos: &[Vec<u8>], data: usize) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((infos.len() as u64).to_le_bytes());
    bytes.extend((pairs.len() as u64).to_le_bytes());
    pairs.iter().chain(infos).for_each(|item| bytes.extend(item));
    bytes.resize(bytes.len().next_multiple_of(32) + data, 0);
    bytes
}

fn read(bytes: &[u8]) -> Result<Header, String> {
    let message = |error| match error {
        RecordError::Recorder { source, .. } => source.to_string(),
        other => other.to_string(),
    };
    let known = Header::read(&mut &*bytes, Some(bytes.len() as u64)).map_err(message);
    if let Ok(known) = &known {
        assert_eq!(&Header::read(&mut &*bytes, None).unwrap(), known);
    }
    known
}

#[test]
fn positions_and_shapes_are_read_in_the_order_of_the_file() {
    let pairs = [string_pair("general.name", "a"), u32_pair("b", 7)];
    let infos =
        [info("second", &[32, 3], 8, 32), info("first", &[5], 0, 0), info("s", &[], 0, 160)];
    let bytes = file(&pairs, &infos, 164);
    let header = read(&bytes).unwrap();
    assert_eq!(
        (header.version, header.alignment, header.data() as usize),
        (3, 32, bytes.len() - 164)
    );
    let texts: Vec<_> = header.pairs.iter().map(|pair| pair.text(&header.bytes).unwrap()).collect();
    assert_eq!(texts, ["a", "7"]);
    let slots: Vec<_> =
        header.tensors.iter().map(|it| (&*it.name, it.ty, &*it.shape, it.bytes.clone())).collect();
    assert_eq!(
        slots,
        [
            ("second", GgufType::Q8_0, &[3, 32][..], 32..134),
            ("first", GgufType::F32, &[5], 0..20),
            ("s", GgufType::F32, &[], 160..164),
        ]
    );
    assert_eq!(header.by_offset(), [1, 0, 2]);
}

#[test]
fn version_2_and_other_alignments_are_read() {
    let mut bytes = file(&[u32_pair(ALIGNMENT, 8)], &[info("w", &[1], 0, 8)], 12);
    bytes[4] = 2;
    let header = read(&bytes).unwrap();
    assert_eq!((header.version, header.alignment), (2, 8));
}

#[test]
fn rejects_other_versions_and_byte_orders() {
    let empty = file(&[], &[], 0);
    let with = |version: u32| [&empty[..4], &version.to_le_bytes(), &empty[8..]].concat();
    let supported = "the versions 2 and 3 can be read";
    assert_eq!(read(&with(1)).unwrap_err(), format!("GGUF version 1; {supported}"));
    assert_eq!(read(&with(4)).unwrap_err(), format!("GGUF version 4; {supported}"));
    let big = "a big-endian GGUF file; only little endian is read";
    assert_eq!(read(&with(3u32.swap_bytes())).unwrap_err(), big);
    assert!(read(b"GGML\x03\0\0\0").is_err());
}

#[test]
fn rejects_headers_that_contradict_themselves() {
    let w = |ty, extents: &[u64], offset| info("w", extents, ty, offset);
    for (pairs, infos, said) in [
        (vec![u32_pair("a", 1), string_pair("a", "b")], vec![], "a: duplicate key"),
        (vec![u32_pair(ALIGNMENT, 0)], vec![], "general.alignment: 0 is not a power of two"),
        (vec![u32_pair(ALIGNMENT, 24)], vec![], "general.alignment: 24 is not a power of two"),
        (vec![string_pair(ALIGNMENT, "32")], vec![], "general.alignment: not a u32"),
        (vec![], vec![w(0, &[1], 0), w(0, &[1], 32)], "w: duplicate name"),
        (vec![], vec![w(0, &[1; 5], 0)], "w: 5 axes, more than the four that GGUF allows"),
        (vec![], vec![w(4, &[32], 0)], "w: the type Q4_2 (4) is not a type of files any more"),
        (vec![], vec![w(43, &[32], 0)], "w: unknown type 43"),
        (vec![], vec![w(0, &[2, u64::MAX], 0)], "w: shape [18446744073709551615, 2] is too large"),
        (vec![], vec![w(0, &[8], u64::MAX - 31)], "w: shape [8] is too large"),
        (
            vec![],
            vec![w(12, &[128, 2], 0)],
            "w: rows of 128 values do not consist of Q4_K blocks of 256",
        ),
        (vec![], vec![w(8, &[], 0)], "w: rows of 1 values do not consist of Q8_0 blocks of 32"),
        (vec![], vec![w(0, &[1], 4)], "w: the offset 4 is not a multiple of 32"),
        (
            vec![],
            vec![w(0, &[9], 0), info("v", &[1], 0, 32)],
            "v: starts at byte 32, before the end of another tensor at 36",
        ),
        (vec![], vec![w(0, &[17], 0)], "w: 68 bytes from byte 0 on, but 64 follow the header"),
        (vec![], vec![w(0, &[1], 64)], "w: 4 bytes from byte 64 on, but 64 follow the header"),
    ] {
        assert_eq!(read(&file(&pairs, &infos, 64)).unwrap_err(), said);
    }
}

#[test]
fn rejects_counts_beyond_the_file() {
    for at in [8, 16] {
        for count in [6, 1 << 40, u64::MAX] {
            let mut bytes = file(&[u32_pair("a", 1)], &[info("w", &[1], 0, 0)], 4);
            bytes[at..at + 8].copy_from_slice(&count.to_le_bytes());
            let said = read(&bytes).unwrap_err();
            assert!(said.starts_with(&format!("the header claims {count} items, but ")), "{said}");
        }
    }
}

#[test]
fn rejects_names_that_are_not_text() {
    let mut bytes = file(&[], &[info("w", &[1], 0, 0)], 4);
    bytes[32] = 0xFF;
    assert_eq!(read(&bytes).unwrap_err(), "the name at byte 32 is not UTF-8");
}

#[test]
fn rejects_headers_without_an_end() {
    let bytes = file(&[u32_pair("a", 1)], &[info("w", &[1], 0, 0)], 0);
    let header = read(&[&*bytes, &[0; 32]].concat()).unwrap();
    for len in 0..header.bytes.len() {
        assert!(Header::read(&mut &bytes[..len], Some(len as u64)).is_err(), "{len}");
        assert!(Header::read(&mut &bytes[..len], None).is_err(), "{len}");
    }
    let mut endless = std::io::repeat(b'a');
    let mut start = &*[&file(&[], &[], 0)[..8], &[0; 8], &1u64.to_le_bytes(), &[0xFF; 8]].concat();
    let error = Header::read(&mut start.by_ref().chain(&mut endless), None).unwrap_err();
    let RecordError::Recorder { source, .. } = error else { panic!("{error}") };
    let limit = super::super::cursor::LIMIT;
    assert_eq!(source.downcast_ref(), Some(&GgufError::HeaderTooLong { limit }));
}

#[test]
fn rejects_positions_that_no_file_has_although_the_length_is_unknown() {
    let bytes = file(&[], &[info("w", &[1], 0, u64::MAX - 31)], 4);
    let error = Header::read(&mut &*bytes, None).unwrap_err();
    let RecordError::Recorder { source, .. } = error else { panic!("{error}") };
    assert!(matches!(source.downcast_ref(), Some(GgufError::PastEnd { .. })), "{source}");
    let bytes = file(&[], &[info("w", &[1], 0, 1 << 62)], 4);
    assert!(Header::read(&mut &*bytes, None).is_ok());
}
