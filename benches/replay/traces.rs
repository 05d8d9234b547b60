//! Traces from files, as others have published them.
//!
//! A file is unpacked by the end of its name: `.gz`, `.xz`, `.zst`, or as it is. Its format is found out:
//!
//! - text, four numbers a line, `.lis`: ARC's, `start count _ sequence`, which asks for `count` keys from `start` on;
//! - other text: the first number of each line; lines without one don't count;
//! - else numbers of 32 or 64 bits, the high byte first.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{Kind, Trace};

/// All traces of a folder and of those in it, by their paths, and with them, if there are `corda` and `loop`, the
/// shift from the one to the other and back.
///
/// # Errors
/// If a file can't be read or unpacked; it is named.
pub fn read(folder: &Path) -> io::Result<Vec<Trace>> {
    let mut files = Vec::new();
    walk(folder, &mut files)?;
    files.sort_unstable();
    let mut traces = Vec::new();
    for file in files {
        let name = name(folder, &file);
        let read = unpack(&file).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())));
        let requests = parse(&name, &read?);
        if !requests.is_empty() {
            traces.push(known(name, requests));
        }
    }
    traces.extend(shifts(&traces));
    Ok(traces)
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_trace = |name: &str| [".trace", ".lis", ".gz", ".xz", ".zst"].iter().any(|end| name.ends_with(end));
        if path.is_dir() {
            walk(&path, files)?;
        } else if path.file_name().and_then(|name| name.to_str()).is_some_and(is_trace) {
            files.push(path);
        }
    }
    Ok(())
}

/// The path in the folder, without what tells of packing and format.
fn name(folder: &Path, file: &Path) -> String {
    let path = file.strip_prefix(folder).unwrap_or(file).with_extension("");
    path.display().to_string().replace(".trace", "")
}

fn unpack(file: &Path) -> io::Result<Vec<u8>> {
    let packed = fs::File::open(file).map(io::BufReader::new)?;
    let mut bytes = Vec::new();
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => flate2::read::MultiGzDecoder::new(packed).read_to_end(&mut bytes)?,
        Some("xz") => lzma_rust2::XzReader::new(packed, true).read_to_end(&mut bytes)?,
        Some("zst") => {
            ruzstd::decoding::StreamingDecoder::new(packed).map_err(io::Error::other)?.read_to_end(&mut bytes)?
        }
        _ => io::BufReader::new(packed).read_to_end(&mut bytes)?,
    };
    Ok(bytes)
}

/// The keys, whatever the format.
fn parse(name: &str, bytes: &[u8]) -> Vec<u64> {
    let is_text = bytes.iter().take(4_096).all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    if !is_text {
        return numbers(bytes);
    }
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().map(|line| line.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect());
    let lines = lines.filter(|numbers: &Vec<u64>| !numbers.is_empty());
    if name.ends_with(".lis") {
        return lines.flat_map(|numbers| numbers[0]..numbers[0] + numbers.get(1).copied().unwrap_or(1)).collect();
    }
    lines.map(|numbers| numbers[0]).collect()
}

fn numbers(bytes: &[u8]) -> Vec<u64> {
    let words: Vec<u32> = bytes.as_chunks().0.iter().map(|&word| u32::from_be_bytes(word)).collect();
    if !is_wide(&words) {
        return words.into_iter().map(u64::from).collect();
    }
    bytes.as_chunks().0.iter().map(|&number| u64::from_be_bytes(number)).collect()
}

/// Whether two words are one number: the upper halves are of few kinds, or each has its own lower half, which an upper
/// one after it would not.
fn is_wide(words: &[u32]) -> bool {
    let halves = |from: usize| words[from.min(words.len())..].as_chunks::<2>().0.iter().copied().take(1 << 16);
    let faithful = |from: usize| {
        let (mut partner, mut again, mut same) = (HashMap::new(), 0, 0);
        for [first, second] in halves(from) {
            if let Some(before) = partner.insert(first, second) {
                again += 1;
                same += usize::from(before == second);
            }
        }
        (same as f64 / f64::from(again.max(1)), partner.len())
    };
    let ((within, firsts), (across, seconds)) = (faithful(0), faithful(1));
    words.len().is_multiple_of(2) && (firsts * 8 < seconds || within > 0.9 && across < 0.6)
}

/// With the capacities of the research's table; of others, some shares of the keys.
fn known(name: String, requests: Vec<u64>) -> Trace {
    const KNOWN: [(&str, Kind, &[usize]); 14] = [
        ("OLTP.lis", Kind::Application, &[250, 1_000, 2_000, 5_000, 15_000]),
        ("orm-busy", Kind::Application, &[1_000, 5_000, 15_000]),
        ("web12", Kind::Application, &[300, 1_200, 4_000]),
        ("w106", Kind::Application, &[2_700, 13_750, 55_000]),
        ("trace_vaultservice", Kind::Application, &[900, 4_500, 18_000]),
        ("sprite", Kind::Application, &[100, 400, 1_000]),
        ("2_pools", Kind::Loop, &[100, 500, 2_000]),
        ("cpp", Kind::Loop, &[35, 150]),
        ("cs", Kind::Loop, &[500, 1_000]),
        ("loop", Kind::Loop, &[256, 512, 1_000]),
        ("ps", Kind::Loop, &[500, 1_500]),
        ("scan", Kind::Loop, &[500, 1_500]),
        ("zigzag", Kind::Loop, &[500, 1_500]),
        ("glimpse", Kind::Loop, &[500, 1_000, 2_000]),
    ];
    let stem = Path::new(&name).file_name().and_then(|stem| stem.to_str()).unwrap_or_default();
    if let Some((_, kind, capacities)) = KNOWN.iter().find(|known| known.0 == stem) {
        return Trace { kind: *kind, capacities: capacities.to_vec(), name, requests };
    }
    let keys = requests.iter().collect::<std::collections::HashSet<_>>().len();
    let capacities = [10, 50, 200].map(|share| (keys * share / 1_000).max(10)).to_vec();
    let kind = if name.starts_with("lirs/") { Kind::Loop } else { Kind::Application };
    Trace { name, kind, requests, capacities }
}

/// `corda`, then `loop` once or five times, then `corda`.
fn shifts(traces: &[Trace]) -> Vec<Trace> {
    let requests = |stem: &str| traces.iter().find(|trace| trace.name.ends_with(stem)).map(|trace| &trace.requests);
    let (Some(recent), Some(round)) = (requests("corda/trace_vaultservice"), requests("lirs/loop")) else {
        return Vec::new();
    };
    let shift = |times: usize| Trace {
        name: format!("corda+{times}loop+corda"),
        kind: Kind::Shift,
        requests: [&recent[..], &round.repeat(times), recent].concat(),
        capacities: vec![512],
    };
    vec![shift(1), shift(5)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::SplitMix;

    #[test]
    fn text_is_read_by_lines() {
        assert_eq!(parse("lirs/x", b"7\n*\n\n12\n"), [7, 12]);
        assert_eq!(parse("arc/x.lis", b"100 3 0 1\n5 1 0 2\n"), [100, 101, 102, 5]);
        assert_eq!(parse("x", b"4 1000\n9 20\n"), [4, 9]);
    }

    #[test]
    fn the_width_of_numbers_is_found_out() {
        let mut random = SplitMix(1);
        // Small numbers, hashes that come again, and a loop, as either.
        let small: Vec<u64> = (0..5_000).map(|_| random.below(900) as u64).collect();
        let hashes: Vec<u64> = (0..5_000).map(|_| SplitMix(random.below(900) as u64).next().unwrap()).collect();
        let looped: Vec<u64> = (0..5_000).map(|place| 7_000 + place % 900).collect();
        for keys in [&small, &hashes, &looped] {
            let bytes: Vec<u8> = keys.iter().flat_map(|key| key.to_be_bytes()).collect();
            assert_eq!(&numbers(&bytes), keys);
        }
        for keys in [&small, &looped] {
            let bytes: Vec<u8> = keys.iter().flat_map(|&key| u32::try_from(key).unwrap().to_be_bytes()).collect();
            assert_eq!(&numbers(&bytes), keys);
        }
    }

    #[test]
    fn a_file_is_called_by_its_place_in_the_folder() {
        let name = |file: &str| name(Path::new("/data"), Path::new(file));
        assert_eq!(name("/data/lirs/loop.trace.gz"), "lirs/loop");
        assert_eq!(name("/data/arc/OLTP.lis.zst"), "arc/OLTP.lis");
        assert_eq!(name("/data/corda/trace_vaultservice.gz"), "corda/trace_vaultservice");
    }

    #[test]
    fn packed_files_are_unpacked() {
        // `printf '1\n2\n1\n'` through `gzip -n`, `xz` and `zstd`.
        let packed: [(&str, &[u8]); 4] = [
            ("lirs/a.trace.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\x033\xe42\xe22\xe4\x02\0Z6iE\x06\0\0\0"),
            (
                "b.trace.xz",
                b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4F\x02\0!\x01\x16\0\0\0t/\xe5\xa3\x01\0\x051\n2\n1\n\0\0\0\
                \xf9#\x10\xc7\x7fK\x85\xe7\0\x01\x1e\x06\xc1/\xa4\x1d\x1f\xb6\xf3}\x01\0\0\0\0\x04YZ",
            ),
            ("c.lis.zst", b"(\xb5/\xfd\x04X1\0\x001\n2\n1\n\xc8\xe2\x1e\x07"),
            ("d.trace", b"1\n2\n1\n"),
        ];
        let folder = std::env::temp_dir().join(format!("stanchion-traces-{}", std::process::id()));
        fs::create_dir_all(folder.join("lirs")).unwrap();
        for (file, bytes) in packed {
            fs::write(folder.join(file), bytes).unwrap();
        }
        fs::write(folder.join("README.md"), "no trace").unwrap();
        let traces = read(&folder);
        fs::remove_dir_all(&folder).unwrap();
        let traces = traces.unwrap();
        let names: Vec<&str> = traces.iter().map(|trace| &*trace.name).collect();
        assert_eq!(names, ["b", "c.lis", "d", "lirs/a"]);
        assert!(traces.iter().all(|trace| trace.requests == [1, 2, 1]));
        assert_eq!(traces[3].kind, Kind::Loop);
    }
}
