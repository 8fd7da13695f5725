//! Makes something else of what real clients send: bits flipped, ends cut off, fields twice, numbers beyond all numbers, nesting without end,
//! encodings that are none. A seed names what comes out for ever.

use std::io::Write;

/// Even chances from a seed (splitmix64).
pub struct Chance(pub u64);

impl Chance {
    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below a bound that is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.draw() % bound as u64) as usize
    }

    /// One of some.
    pub fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.below(among.len())]
    }
}

/// Pieces that readers of JSON, forms and numbers trip over.
const PIECES: [&[u8]; 30] = [
    b"1e999",
    b"-1e999",
    b"1e-400",
    b"-0",
    b"99999999999999999999999999999999999999999999999999999999999999999999999999999999",
    b"9007199254740993",
    b"-9223372036854775809",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b"\"\"",
    b"\"\\ud800\"",
    b"\"\\udc00\\ud800\"",
    b"\\u0000",
    b"\0",
    b"\xff\xfe",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\xf4\x90\x80\x80",
    b"%",
    b"%zz",
    b"%00",
    b"&data=",
    b"\"token\":1,",
    b"\"properties\":[],",
    b"\"$set\":{\"$set\":{}},",
    b"\"time\":-62135596801,",
    b"NaN",
];

/// Changes bytes in one way.
pub fn bytes(chance: &mut Chance, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        let piece: &[u8] = PIECES[chance.below(PIECES.len())];
        bytes.extend_from_slice(piece);
        return;
    }
    let at = chance.below(bytes.len());
    match chance.below(9) {
        0 => (0..1 + chance.below(8)).for_each(|_| {
            let at = chance.below(bytes.len());
            bytes[at] ^= 1 << chance.below(8);
        }),
        1 => bytes.truncate(at),
        2 => drop(bytes.drain(..at)),
        3 => {
            let end = (at + 1 + chance.below(200)).min(bytes.len());
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece);
        }
        4 => {
            let piece = *chance.pick(&PIECES);
            bytes.splice(at..at, piece.iter().copied());
        }
        // In the place of a number, where there is one.
        5 => {
            let start = bytes[at..].iter().position(u8::is_ascii_digit).map_or(at, |found| at + found);
            let end = bytes[start..].iter().position(|byte| !byte.is_ascii_digit()).map_or(bytes.len(), |found| start + found);
            let piece = *chance.pick(&PIECES);
            bytes.splice(start..end, piece.iter().copied());
        }
        6 => {
            let depth = 1 + chance.below(5000);
            let open: &[u8] = chance.pick::<&[u8]>(&[b"[", b"{\"a\":", b"[[{\"$set\":"]);
            let closed = chance.below(2) == 0 && open == b"[";
            let piece = [open.repeat(depth), if closed { b"]".repeat(depth) } else { Vec::new() }].concat();
            bytes.splice(at..at, piece);
        }
        7 => {
            let (end, byte) = ((at + 1 + chance.below(64)).min(bytes.len()), chance.draw() as u8);
            bytes[at..end].fill(byte);
        }
        _ => {
            let end = (at + 1 + chance.below(400)).min(bytes.len());
            bytes.drain(at..end);
        }
    }
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).expect("memory");
    encoder.finish().expect("memory")
}

/// One request for a socket, made of a request line with headers, and a body; and whether the server can tell where it ends.
pub fn request(chance: &mut Chance, head: &str, body: &[u8]) -> (Vec<u8>, bool) {
    const METHODS: [&str; 8] = ["GET", "POST", "post", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"];
    const PATHS: [&str; 8] = ["/track", "/engage", "/groups", "/import", "//track/", "/import?strict=1&verbose=1", "/record", "/flags"];
    const TYPES: [&str; 7] = [
        "application/json",
        "application/x-www-form-urlencoded",
        "text/plain;charset=UTF-16",
        "application/x-ndjson",
        "multipart/form-data; boundary=x",
        "\u{7f}",
        "application/json; charset=\"",
    ];
    let (line, headers) = head.split_once('\n').unwrap_or((head, ""));
    let (method, path) = line.split_once(' ').unwrap_or(("POST", "/track"));
    let (mut method, mut path, mut body) = (method.to_owned(), path.as_bytes().to_vec(), body.to_vec());
    let mut headers: Vec<String> = headers.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    let mut framing = None;
    for _ in 0..1 + chance.below(3) {
        match chance.below(12) {
            0..=4 => bytes(chance, &mut body),
            5 => bytes(chance, &mut path),
            6 => method = (*chance.pick(&METHODS)).to_owned(),
            7 => path = chance.pick(&PATHS).as_bytes().to_vec(),
            8 => {
                body = gzip(&body);
                if chance.below(2) == 0 {
                    bytes(chance, &mut body);
                }
            }
            9 => {
                headers.push(format!("Content-Encoding: {}", chance.pick(&["gzip", "deflate", "br", "gzip, gzip", "identity", "zstd", ""])))
            }
            10 => headers.push(format!("Content-Type: {}", chance.pick(&TYPES))),
            _ => framing = Some(chance.below(8)),
        }
    }
    // A request line ends somewhere.
    path.retain(|byte| !matches!(byte, b'\r' | b'\n'));
    let length = body.len();
    let framed = match framing {
        None => [format!("Content-Length: {length}\r\n\r\n").into_bytes(), body].concat(),
        Some(0) => [format!("Content-Length: {}\r\n\r\n", length + 1 + chance.below(100)).into_bytes(), body].concat(),
        Some(1) => [format!("Content-Length: {}\r\n\r\n", length / 2).into_bytes(), body].concat(),
        Some(2) => [format!("Content-Length: {length}\r\nContent-Length: {}\r\n\r\n", length + 1).into_bytes(), body].concat(),
        Some(3) => [b"Content-Length: -1\r\n\r\n".to_vec(), body].concat(),
        Some(4) => [format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n\r\n{length:x}\r\n").into_bytes(), body].concat(),
        Some(5) => [b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n".to_vec(), body].concat(),
        Some(6) => [b"Transfer-Encoding: gzip, chunked\r\n\r\n".to_vec(), chunked(chance, &body)].concat(),
        _ => [b"Transfer-Encoding: chunked\r\n\r\n".to_vec(), chunked(chance, &body)].concat(),
    };
    let mut request = [method.as_bytes(), b" ", &path, b" HTTP/1.1\r\nHost: sluice.test\r\nConnection: close\r\n"].concat();
    headers.iter().for_each(|header| request.extend([header.as_bytes(), b"\r\n"].concat()));
    request.extend(framed);
    (request, framing.is_none())
}

/// A body in chunks of any size, some with what a chunk may bring beside its size.
fn chunked(chance: &mut Chance, body: &[u8]) -> Vec<u8> {
    let (mut rest, mut out) = (body, Vec::new());
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((1 + chance.below(300)).min(rest.len()));
        let extension = chance.pick(&["", ";a=b", ";", "  "]);
        out.extend(format!("{:0>width$x}{extension}\r\n", piece.len(), width = chance.below(12)).into_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
        rest = after;
    }
    out.extend_from_slice(if chance.below(4) == 0 { b"0\r\nX: y\r\n\r\n" } else { b"0\r\n\r\n" });
    out
}
