use proptest::prelude::*;

use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::at(folder.path().join("a/b"));
    (folder, store)
}

#[test]
fn what_was_saved_is_loaded() {
    let (_folder, store) = store();
    let offsets = [8192u64, 0, 4096 * 0xffff_ffff, 2 << 20];
    assert_eq!(store.load(Key(7)), None);
    store.save(Key(7), &[0]).unwrap();
    store.save(Key(7), &offsets).unwrap();
    assert_eq!(store.load(Key(7)).as_deref(), Some(&offsets[..]));
    assert_eq!(store.load(Key(8)), None);
    let names: Vec<_> = fs::read_dir(&store.folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 1, "nothing but the order is left behind: {names:?}");
}

#[test]
fn an_order_of_another_model_is_ignored() {
    let (_folder, store) = store();
    store.save(Key(7), &[0, 4096]).unwrap();
    fs::rename(store.path(Key(7)), store.path(Key(8))).unwrap();
    assert_eq!(store.load(Key(8)), None);
    assert_eq!(decode(&encode(Key(7), &[0]), Key(8)), Err(BadOrder::OtherModel));
}

#[test]
fn what_is_no_file_is_ignored() {
    let (_folder, store) = store();
    fs::create_dir_all(store.path(Key(1))).unwrap();
    assert_eq!(store.load(Key(1)), None);
    let pipe = store.path(Key(2));
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    assert_eq!(store.load(Key(2)), None);
}

#[test]
fn the_oldest_orders_go() {
    let (_folder, store) = store();
    store.save(Key(1 << 100), &[0]).unwrap();
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    fs::File::options().write(true).open(store.path(Key(1 << 100))).unwrap().set_modified(long_ago).unwrap();
    (0..FILES_MAX as u128).for_each(|key| store.save(Key(key), &[0]).unwrap());
    assert_eq!(store.load(Key(1 << 100)), None);
    assert!((0..FILES_MAX as u128).all(|key| store.load(Key(key)).is_some()));
}

#[test]
fn the_folder_is_the_users() {
    let folder = |pairs: &'static [(&str, &str)]| {
        let get = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        Store::of_user(get).map(|store| store.folder.display().to_string())
    };
    assert_eq!(folder(&[("XDG_CACHE_HOME", "/c"), ("HOME", "/h")]).as_deref(), Some("/c/ggpager/orders"));
    assert_eq!(folder(&[("XDG_CACHE_HOME", "c"), ("HOME", "/h")]).as_deref(), Some("/h/.cache/ggpager/orders"));
    assert_eq!(folder(&[]), None);
}

proptest! {
    #[test]
    fn every_order_survives(key: u128, pages in prop::collection::vec(any::<u32>(), 0..200)) {
        let offsets: Vec<u64> = pages.iter().map(|&page| u64::from(page) * 4096).collect();
        prop_assert_eq!(decode(&encode(Key(key), &offsets), Key(key)), Ok(offsets));
    }

    #[test]
    fn any_damage_is_noticed(pages in prop::collection::vec(any::<u32>(), 0..50), at: prop::sample::Index, bit in 0..8u8) {
        let offsets: Vec<u64> = pages.iter().map(|&page| u64::from(page) * 4096).collect();
        let whole = encode(Key(5), &offsets);
        let mut flipped = whole.clone();
        flipped[at.index(whole.len())] ^= 1 << bit;
        prop_assert!(decode(&flipped, Key(5)).is_err());
        prop_assert!(decode(&whole[..at.index(whole.len())], Key(5)).is_err());
    }

    #[test]
    fn any_bytes_are_an_error_or_an_order(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes, Key(0));
    }
}
