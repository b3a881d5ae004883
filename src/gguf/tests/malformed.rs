//! One wrong thing in a file at a time: each is an error of its own kind, not a panic.

use super::writer::{Entry, File, Written};
use crate::gguf::{BadType, Error, GgmlType, Model, ValueType};

fn sound() -> File {
    File::new("llama").tensor("a", &[64, 2]).tensor("b", &[32])
}

fn error(file: &File) -> Error {
    Model::read(&file.bytes()).expect_err("the file is wrong")
}

/// Asserts that reading `$file` gives an error of the form `$pattern`.
macro_rules! refused {
    ($file:expr, $pattern:pat) => {
        let error = error(&$file);
        assert!(matches!(error, $pattern), "{error:?}");
    };
}

#[test]
fn the_sound_file_is_read() {
    let model = Model::read(&sound().bytes()).unwrap();
    assert_eq!((model.arch.as_str(), model.tensors.len(), model.version), ("llama", 2, 3));
    assert_eq!(model.tensors[1].offset, model.data_offset + 512);
    let mut old = sound();
    old.version = 2;
    assert_eq!(Model::read(&old.bytes()).unwrap().version, 2);
}

#[test]
fn magic_version_and_byte_order() {
    refused!(File { magic: *b"GGML", ..sound() }, Error::Magic { found: [b'G', b'G', b'M', b'L'] });
    for version in [0, 1, 4, 0x0003_0003] {
        refused!(File { version, ..sound() }, Error::Version { .. });
    }
    refused!(File { version: 3u32.swap_bytes(), ..sound() }, Error::BigEndian);
}

#[test]
fn every_truncation_is_noticed() {
    let bytes = sound().bytes();
    let whole = Model::read(&bytes).unwrap();
    let end = whole.tensors[1].extent().end() as usize;
    for length in 0..end {
        assert!(Model::read(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
    }
    assert_eq!(Model::read(&bytes[..end]).unwrap().tensors, whole.tensors);
}

#[test]
fn counts_are_bounded_by_the_file() {
    for count in [u64::MAX, 1 << 40, 1000] {
        refused!(File { tensor_count: Some(count), ..sound() }, Error::TooMany { what: "the number of tensors", .. });
        refused!(
            File { pair_count: Some(count), ..sound() },
            Error::TooMany { what: "the number of metadata pairs", .. }
        );
    }
    // Fits before the pairs are read and not after them.
    let mut file = sound().pair("filler", Written::String("x".repeat(2000)));
    file.tensor_count = Some(50);
    refused!(file, Error::TooMany { what: "the number of tensors", .. });
}

#[test]
fn lengths_inside_values_are_bounded() {
    let with_length = |value: Written, at_from_end: usize, length: u64| {
        let mut file = File::new("llama").pair("x", value);
        file.alignment = 1;
        let mut bytes = file.bytes();
        let at = bytes.len() - at_from_end;
        bytes[at..at + 8].copy_from_slice(&length.to_le_bytes());
        Model::read(&bytes).expect_err("the length is wrong")
    };
    for length in [5, 1 << 33, u64::MAX] {
        let string = with_length(Written::String("abcd".into()), 12, length);
        assert!(matches!(string, Error::TooMany { what: "the length of a string", .. }), "{string:?}");
        let numbers = Written::Array(ValueType::U16, vec![Written::U16(0); 2]);
        let array = with_length(numbers, 12, length);
        assert!(matches!(array, Error::TooMany { what: "the number of array elements", .. }), "{array:?}");
        let strings = Written::Array(ValueType::String, vec![Written::String("abcd".into())]);
        let inner = with_length(strings, 12, length);
        assert!(matches!(inner, Error::Truncated { what: "string", .. }), "{inner:?}");
    }
}

#[test]
fn value_types_are_known_and_nest_within_reason() {
    let mut file = File::new("llama").pair("x", Written::U8(1));
    file.alignment = 1;
    let mut bytes = file.bytes();
    let at = bytes.len() - 5;
    bytes[at] = 13;
    let error = Model::read(&bytes).unwrap_err();
    assert!(matches!(&error, Error::ValueType { key, id: 13 } if key == "x"), "{error:?}");

    let nested = |depth| {
        let inner = Written::Array(ValueType::U8, vec![Written::U8(7); 3]);
        let value = (1..depth).fold(inner, |inner, _| Written::Array(ValueType::Array, vec![inner.clone(), inner]));
        Model::read(&File::new("llama").pair("deep", value).pair("after", Written::U8(9)).bytes())
    };
    for depth in 1..=4 {
        assert_eq!(nested(depth).unwrap().value("after").and_then(|value| value.as_u64()), Some(9), "{depth}");
    }
    assert!(matches!(nested(5), Err(Error::TooMany { what: "the depth of arrays", .. })));
}

#[test]
fn alignment_is_a_power_of_two_within_reason() {
    for value in [Written::U32(0), Written::U32(48), Written::U32(1 << 31), Written::I32(-32), Written::F32(32.0)] {
        refused!(sound().pair("general.alignment", value), Error::Value { key: "general.alignment", .. });
    }
    let mut file = sound().pair("general.alignment", Written::U32(4096));
    file.alignment = 4096;
    let model = Model::read(&file.bytes()).unwrap();
    assert_eq!((model.alignment, model.data_offset, model.tensors[1].offset), (4096, 4096, 8192));
}

#[test]
fn an_architecture_is_a_short_string() {
    let key = "general.architecture";
    let mut file = sound();
    file.pairs[0].1 = Written::U32(1);
    assert!(matches!(error(&file), Error::Value { key: found, .. } if found == key));
    file.pairs[0].1 = Written::String("x".repeat(5000));
    assert!(matches!(error(&file), Error::Value { key: found, .. } if found == key));
    file.pairs.clear();
    assert_eq!(Model::read(&file.bytes()).unwrap().arch, "");
}

#[test]
fn names_occur_once_and_are_text() {
    refused!(sound().tensor("a", &[32]), Error::Duplicate { what: "tensor", .. });
    refused!(sound().pair("general.architecture", Written::U8(0)), Error::Duplicate { what: "key", .. });
    refused!(sound().tensor(&"n".repeat(1025), &[32]), Error::TooMany { what: "tensor name", .. });
    let mut bytes = sound().tensor("umlaut-ä", &[32]).bytes();
    let at = bytes.windows(2).position(|pair| pair == "ä".as_bytes()).unwrap();
    bytes[at] = 0xff;
    assert!(matches!(Model::read(&bytes), Err(Error::Utf8 { what: "tensor name", .. })));
}

#[test]
fn tensor_types_are_known() {
    for (id, removed) in [(4, true), (31, true), (38, true), (43, false), (u32::MAX, false)] {
        let mut file = sound();
        file.tensors[1].type_id = id;
        let Error::Type { tensor, reason } = error(&file) else { panic!("type {id} was accepted") };
        assert_eq!(tensor, "b");
        assert_eq!(matches!(reason, BadType::Removed { .. }), removed, "{reason}");
    }
}

#[test]
fn dimensions_are_possible() {
    refused!(sound().tensor("c", &[1, 1, 1, 1, 1]), Error::Dims { .. });
    for dims in [&[1u64 << 63][..], &[1 << 32, 1 << 32], &[u64::MAX, u64::MAX, 2], &[u64::MAX, 0], &[1 << 62]] {
        let mut file = sound();
        let mut entry = Entry::new("c", &[32], GgmlType::F32);
        entry.offset = Some(1024);
        file.tensors.push(entry);
        let name_end = |bytes: &[u8]| bytes.windows(9).rposition(|part| part == b"\x01\0\0\0\0\0\0\0c").unwrap() + 9;
        let mut bytes = file.bytes();
        let at = name_end(&bytes);
        let mut entry = (dims.len() as u32).to_le_bytes().to_vec();
        dims.iter().for_each(|dim| entry.extend(dim.to_le_bytes()));
        bytes.splice(at..at + 12, entry);
        assert!(matches!(Model::read(&bytes), Err(Error::Dims { .. })), "{dims:?}");
    }
    let mut file = sound();
    file.tensors.push(Entry::new("c", &[100], GgmlType::Q4_K));
    refused!(file, Error::Dims { .. });
}

#[test]
fn tensors_lie_inside_the_file_and_apart() {
    let placed = |offset: u64| {
        let mut file = sound();
        let mut entry = Entry::new("c", &[32], GgmlType::F32);
        entry.offset = Some(offset);
        file.tensors.insert(0, entry);
        file.tensors[1].offset = Some(0);
        let mut bytes = file.bytes();
        bytes.resize(bytes.len() + 1024, 0);
        Model::read(&bytes)
    };
    for offset in [1 << 40, u64::MAX - 31, 1 << 63] {
        assert!(matches!(placed(offset), Err(Error::Extent { .. })), "{offset}");
    }
    assert!(matches!(placed(8), Err(Error::Extent { .. })));
    for offset in [0, 32, 480, 512, 608] {
        assert!(matches!(placed(offset), Err(Error::Overlap { .. })), "{offset}");
    }
    assert_eq!(placed(640).unwrap().tensors.len(), 3);
}

#[test]
fn empty_tensors_and_empty_files_are_possible() {
    let model = Model::read(&File::new("x").bytes()).unwrap();
    assert!(model.tensors.is_empty());
    let model = Model::read(&sound().tensor("empty", &[0, 5]).tensor("scalar", &[]).bytes()).unwrap();
    assert_eq!((model.tensors[2].bytes, model.tensors[3].bytes), (0, 4));
}
