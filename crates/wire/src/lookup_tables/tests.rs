//! Files that are lookup tables, and files that are none.

use std::io::Write;

use proptest::prelude::*;

use super::*;

#[test]
fn a_field_is_typed_by_what_it_looks_like() {
    let value = |value: Value| Cell::Value(value);
    let list = |items: &[&str]| value(Value::List(items.iter().map(|item| Value::from(*item)).collect()));
    let text = |field: &str| (field.to_owned(), value(Value::from(field)));
    let number = |field: &str, number: Number| (field.to_owned(), value(Value::Number(number)));
    let typed = |field: &str, cell: Cell| (field.to_owned(), cell);
    let table = [
        typed("", Cell::Undefined),
        number("0", Number::Int(0)),
        number("1700000000", Number::Int(1_700_000_000)),
        number("-7", Number::Int(-7)),
        number("+7", Number::Int(7)),
        number("007", Number::Int(7)),
        number("1.5", Number::Float(1.5)),
        number("1.50", Number::Float(1.5)),
        number("2.0", Number::Int(2)),
        number("1e3", Number::Int(1000)),
        number(".5", Number::Float(0.5)),
        number("18446744073709551616", Number::Text("18446744073709551616".into())),
        text("NaN"),
        text("inf"),
        text("-infinity"),
        text("1e999"),
        text("0x10"),
        text("1,000"),
        text("1 "),
        text("-"),
        text("."),
        text("+-1"),
        typed("2021-08-21T05:36:01Z", Cell::Datetime(1_629_524_161_000)),
        typed("2021-08-21T05:36:01.250Z", Cell::Datetime(1_629_524_161_250)),
        typed("2021-08-21T07:36:01+02:00", Cell::Datetime(1_629_524_161_000)),
        typed("2021-08-21t05:36:01z", Cell::Datetime(1_629_524_161_000)),
        typed("1969-12-31T23:59:59Z", Cell::Datetime(-1_000)),
        text("2015-10-18T22:00:00"),
        text("2021-08-21"),
        text("2021-08-21 05:36:01Z"),
        text("2021-08-21T05:36Z"),
        text("2021-02-30T05:36:01Z"),
        text("2021-08-21T05:36:01Z[UTC]"),
        text("2021-08-21T05:36:01+0200"),
        typed("true", value(Value::Bool(true))),
        typed("True", value(Value::Bool(true))),
        typed("FALSE", value(Value::Bool(false))),
        text("yes"),
        typed(r#"["Free","Paid"]"#, list(&["Free", "Paid"])),
        typed(r#"["Free", "Paid"]"#, list(&["Free", "Paid"])),
        typed("[]", list(&[])),
        text("[Free,Paid]"),
        text(r#"["Free",1]"#),
        text("[1,2]"),
        text(r#"{"a":1}"#),
        text(" Drake "),
        text("null"),
        text("日本語"),
    ];
    for (field, expected) in table {
        assert_eq!(cell(&field), expected, "`{field}`");
    }
}

/// The table as `key: field|field`, by key.
fn shown(file: &[u8]) -> String {
    let table = match parse(file) {
        Ok(table) => table,
        Err(TableError::Failed(failures)) => {
            return failures.iter().map(|failed| format!("{}: {}\n", failed.index, failed.message)).collect();
        }
        Err(other) => return format!("{other:?}"),
    };
    let names: Vec<&str> = table.columns().iter().map(|column| column.name.as_str()).collect();
    let mut out = format!("({})\n", names.join("|"));
    for row in 0..table.rows() as u32 {
        let fields: Vec<String> = (0..names.len())
            .map(|column| match table.cell(row, column) {
                Cell::Undefined => String::new(),
                Cell::Datetime(ms) => format!("at {ms}"),
                Cell::Value(value) => {
                    let mut text = String::new();
                    json::write(value, &mut text);
                    text
                }
            })
            .collect();
        out.push_str(&format!("{}: {}\n", table.key(row), fields.join("|")));
    }
    out
}

#[track_caller]
fn check(file: &str, expected: &str) {
    assert_eq!(shown(file.as_bytes()), expected, "{file}");
}

#[test]
fn a_file_in_every_spelling_of_rfc_4180_is_read() {
    check("id,a\nk,1\n", "(a)\nk: 1\n");
    check("id,a\r\nk,1", "(a)\nk: 1\n");
    check("\u{feff}id,a\nk,1\n", "(a)\nk: 1\n");
    check("\u{feff}\"id\",a\nk,1\n", "(a)\nk: 1\n");
    check("id,a\n\nk,1\n\r\n", "(a)\nk: 1\n");
    check("id,a,b\nk,,\nj,x,\n", "(a|b)\nj: \"x\"|\nk: |\n");
    check("id,\"a \"\"b\"\"\"\n\"k,1\",\"two\nlines\"\n", "(a \"b\")\nk,1: \"two\\nlines\"\n");
    check("id,tiers\nk,\"[\"\"Free\"\",\"\"Paid\"\"]\"\n", "(tiers)\nk: [\"Free\",\"Paid\"]\n");
    check("id,a\n 1 ,\"\"\n", "(a)\n 1 : \n");
    // Only the key's column may be without a name.
    check(",a\n0,x\n", "(a)\n0: \"x\"\n");
    check("id,a\n", "(a)\n");
}

#[test]
fn a_file_that_breaks_a_rule_says_which_row_does() {
    check("", "0: header row is required\n");
    check("\n\n", "0: header row is required\n");
    check("id\nk\n", "0: invalid header: at least 2 columns are needed, the first one for the key\n");
    check("id,a,a\nk,1,2\n", "0: invalid header: column name `a` is not unique\n");
    check("id,id\nk,1\n", "0: invalid header: column name `id` is not unique\n");
    check("id,\nk,1\n", "0: invalid header: the name of column 2 must be one line of 1 to 255 characters\n");
    check("id,\"a\nb\"\nk,1\n", "0: invalid header: the name of column 2 must be one line of 1 to 255 characters\n");
    check("id,a\nk,1\nk,2\n", "2: invalid row: row indexes 1 and 2 have the same primary key\n");
    check(
        "id,a\nk,1\n,2\nj,3,4\ni\n \t,1\n",
        "2: primary key is required and cannot be blank\n3: invalid row: wrong number of fields\n4: invalid row: wrong number of fields\n5: primary key is required and cannot be blank\n",
    );
    check("id,a\nk,x\"y\n", "1: invalid row: a quote inside a field that is not quoted\n");
    check("id,a\nk,\"x\"y\n", "1: invalid row: text behind a quoted field\n");
    check("id,a\n\nk,1\nj,\"x\n", "2: invalid row: a quoted field does not end\n");
    check("id,a\n,1\nj,\"x", "1: primary key is required and cannot be blank\n2: invalid row: a quoted field does not end\n");
    assert_eq!(shown(b"id,a\nk,\xff\n"), "1: invalid row: text is not valid UTF-8\n");
    assert_eq!(shown(b"id,\xff\nk,1\n"), "0: invalid header: text is not valid UTF-8\n");
    let many = "x,".repeat(COLUMNS_MAX + 1);
    check(&many, "0: invalid row: more than 1000 fields\n");
}

#[test]
fn the_first_ten_failures_are_told() {
    let file = format!("id,a\n{}", ",1\n".repeat(50));
    let told = shown(file.as_bytes());
    assert_eq!(told.lines().count(), 10);
    assert!(told.starts_with("1: primary") && told.contains("\n10: primary"), "{told}");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn gzip_is_undone_and_bounded() {
    assert_eq!(shown(&gzip(b"id,a\nk,1\n")), "(a)\nk: 1\n");
    let packed = gzip(b"id,a\nk,1\n");
    assert_eq!(parse(&packed[..packed.len() - 9]), Err(TableError::BrokenGzip));
    assert_eq!(read(&b"id,a\nk,1\n"[..], 9).map(|table| table.rows()), Ok(1));
    assert_eq!(read(&b"id,a\nk,1\n"[..], 8), Err(TableError::TooLarge));
    // One row of a hundred megabytes and a bit, in a few kilobytes.
    let bomb = [b"id,a\nk,".as_slice(), &vec![b'x'; FILE_BYTES_MAX]].concat();
    assert_eq!(parse(&gzip(&bomb)), Err(TableError::TooLarge));
}

#[test]
fn answers_are_the_originals() {
    let failures = vec![
        FailedRow { index: 2, message: "primary key is required and cannot be blank".to_owned() },
        FailedRow { index: 3, message: "invalid row: wrong number of fields".to_owned() },
    ];
    let told = invalid(&TableError::Failed(failures));
    assert_eq!(
        (told.status, String::from_utf8_lossy(&told.body).as_ref()),
        (
            400,
            r#"{"code":400,"error":"Some data points in the request failed validation.","status":"Bad Request","failed_records":[{"index":2,"message":"primary key is required and cannot be blank"},{"index":3,"message":"invalid row: wrong number of fields"}]}"#
        )
    );
    assert_eq!(invalid(&TableError::TooLarge).status, 413);
    let listed = list([("55b4fb2b-e8de-466c-930f-8b36640b9b5e", "Accounts")].into_iter());
    assert_eq!(
        String::from_utf8_lossy(&listed.body),
        r#"{"code":200,"status":"OK","results":[{"id":"55b4fb2b-e8de-466c-930f-8b36640b9b5e","name":"Accounts"}]}"#
    );
}

proptest! {
    /// What another writer of CSV writes comes back, field for field.
    #[test]
    fn every_field_comes_back(rows in proptest::collection::vec(("[a-z\",\n é]{0,6}", "[a-z\",\r\n é]{1,6}"), 1..20)) {
        let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
        writer.write_record(["id", "a"]).unwrap();
        for (at, (key, field)) in rows.iter().enumerate() {
            writer.write_record([format!("{at} {key}"), format!("_{field}")]).unwrap();
        }
        let table = parse(&writer.into_inner().unwrap()).unwrap();
        prop_assert_eq!(table.rows(), rows.len());
        for (at, (key, field)) in rows.iter().enumerate() {
            let row = table.find(&format!("{at} {key}")).unwrap();
            prop_assert_eq!(table.cell(row, 0), &Cell::Value(Value::String(format!("_{field}"))));
        }
    }

    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(proptest::sample::select(b"ab,\"\r\n\xff\xef\xbb\xbf".to_vec()), 0..60)) {
        let _ = parse(&bytes);
    }
}
