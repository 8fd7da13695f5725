//! Expressions of `where`, `on` and friends, evaluated over rows (`contract/read.md` 4.2).
//!
//! A [`Program`] is an expression made ready once per report; a [`Memory`] belongs to one batch of rows.
//! Whatever depends on one string property alone is calculated once per distinct value of a batch and remembered
//! under the value's dictionary code. Nothing here fails: a mismatch of types is undefined, and undefined passes no filter.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt::Write;

use model::filter::{BinaryOp, Expr, Function, Scope};
use model::value::Properties;
use model::{Number, Timestamp, Value};

/// Integers up to here are exact as doubles.
const EXACT_MAX: i64 = 1 << 53;

/// A value while an expression is calculated.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand<'v> {
    /// The value of a property that is absent.
    Undefined,
    /// An explicit null.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number; finite.
    Number(f64),
    /// A string.
    Text(Cow<'v, str>),
    /// An instant in milliseconds since the epoch.
    Datetime(i64),
    /// A list.
    List(Cow<'v, [Value]>),
    /// An object.
    Object(Box<Properties>),
    /// An object that lives elsewhere.
    Borrowed(&'v Properties),
}

impl<'v> Operand<'v> {
    /// A stored value as it takes part in expressions.
    pub fn of(value: &'v Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(flag) => Self::Bool(*flag),
            Value::Number(number) => Self::number(number.as_f64()),
            Value::String(text) => Self::Text(Cow::Borrowed(text)),
            Value::List(list) => Self::List(Cow::Borrowed(list)),
            Value::Object(object) => Self::Borrowed(object),
        }
    }

    /// As [`Operand::of`], for a value that nobody else holds.
    pub fn owned(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(flag) => Self::Bool(flag),
            Value::Number(number) => Self::number(number.as_f64()),
            Value::String(text) => Self::Text(Cow::Owned(text)),
            Value::List(list) => Self::List(Cow::Owned(list)),
            Value::Object(object) => Self::Object(Box::new(object)),
        }
    }

    /// A calculated number; what is not finite is undefined.
    fn number(number: f64) -> Self {
        if number.is_finite() { Self::Number(number) } else { Self::Undefined }
    }

    fn text(text: impl Into<String>) -> Self {
        Self::Text(Cow::Owned(text.into()))
    }

    /// Whether a filter that ends here passes.
    pub fn passes(&self) -> bool {
        matches!(self, Self::Bool(true))
    }

    /// What `and` and `or` take it for. The documents refuse non-booleans here; old scripts rely on leniency.
    fn is_truthy(&self) -> bool {
        match self {
            Self::Undefined | Self::Null => false,
            Self::Bool(flag) => *flag,
            Self::Number(number) => *number != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::Datetime(_) => true,
            Self::List(list) => !list.is_empty(),
            Self::Object(object) => !object.is_empty(),
            Self::Borrowed(object) => !object.is_empty(),
        }
    }

    fn as_object(&self) -> Option<&Properties> {
        match self {
            Self::Object(object) => Some(object),
            Self::Borrowed(object) => Some(object),
            _ => None,
        }
    }

    /// The number inside, if it is one.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// Its text as the key of a breakdown: `undefined`, `null`, `true`, the shortest decimal, JSON for lists and objects.
    pub fn key(&self) -> Cow<'_, str> {
        match self {
            Self::Undefined => Cow::Borrowed("undefined"),
            Self::Null => Cow::Borrowed("null"),
            Self::Bool(flag) => Cow::Borrowed(if *flag { "true" } else { "false" }),
            Self::Number(number) => Cow::Owned(number_text(*number)),
            Self::Text(text) => Cow::Borrowed(text),
            Self::Datetime(ms) => Cow::Owned(model::profile::wall_time(Timestamp(*ms))),
            Self::List(list) => {
                let mut out = String::new();
                write_list(list, &mut out);
                Cow::Owned(out)
            }
            Self::Object(_) | Self::Borrowed(_) => {
                let mut out = String::new();
                if let Some(object) = self.as_object() {
                    write_object(object, &mut out);
                }
                Cow::Owned(out)
            }
        }
    }

    /// How two values stand in a sorted answer: numbers, datetimes, text, booleans, the rest; absent ones last.
    pub fn order(&self, other: &Self) -> Ordering {
        fn rank(operand: &Operand<'_>) -> u8 {
            match operand {
                Operand::Number(_) => 0,
                Operand::Datetime(_) => 1,
                Operand::Text(_) => 2,
                Operand::Bool(_) => 3,
                Operand::List(_) => 4,
                Operand::Object(_) | Operand::Borrowed(_) => 5,
                Operand::Null => 6,
                Operand::Undefined => 7,
            }
        }
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (Self::Datetime(a), Self::Datetime(b)) => a.cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (a, b) if rank(a) == rank(b) => a.key().cmp(&b.key()),
            (a, b) => rank(a).cmp(&rank(b)),
        }
    }

    /// Whether there is anything to sort by.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Undefined | Self::Null)
    }
}

/// The shortest decimal of a number, without `.0` and without an exponent.
pub fn number_text(number: f64) -> String {
    // Negative zero is zero to a reader.
    if number == 0.0 { "0".to_owned() } else { number.to_string() }
}

/// The text of a number whose digits a double would lose, if it is such a number.
pub fn exact_text(number: &Number) -> Option<String> {
    match number {
        Number::Int(int) if int.unsigned_abs() > EXACT_MAX.unsigned_abs() => Some(int.to_string()),
        Number::Text(text) if text.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit()) => Some(text.to_string()),
        _ => None,
    }
}

/// The text of one stored value as the key of a breakdown.
pub fn value_key(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        Value::Number(number) => match exact_text(number) {
            Some(text) => Cow::Owned(text),
            None => Cow::Owned(number_text(number.as_f64())),
        },
        other => Cow::Owned(Operand::of(other).key().into_owned()),
    }
}

fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number.text()),
        Value::String(text) => write_string(text, out),
        Value::List(list) => write_list(list, out),
        Value::Object(object) => write_object(object, out),
    }
}

fn write_list(list: &[Value], out: &mut String) {
    out.push('[');
    for (index, value) in list.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_value(value, out);
    }
    out.push(']');
}

fn write_object(object: &Properties, out: &mut String) {
    out.push('{');
    for (index, (name, value)) in object.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_string(name, out);
        out.push(':');
        write_value(value, out);
    }
    out.push('}');
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control < ' ' => {
                write!(out, "\\u{:04x}", u32::from(control)).expect("a string takes every write");
            }
            plain => out.push(plain),
        }
    }
    out.push('"');
}

/// Rows that expressions look into. A slot is the number of a name in [`Program::slots`].
pub trait Rows<'v> {
    /// What the slot holds in the row.
    fn value(&self, row: usize, slot: usize) -> Operand<'v>;

    /// The dictionary code of the string that the slot holds in the row, where there is one worth remembering.
    fn code(&self, row: usize, slot: usize) -> Option<u32>;
}

/// An expression made ready: names became slots, and what depends on one slot alone is marked.
#[derive(Debug, Clone)]
pub struct Program {
    root: Node,
    slots: Vec<(Scope, String)>,
    remembered: usize,
}

#[derive(Debug, Clone)]
enum Node {
    Literal(Value),
    Undefined,
    Slot(usize),
    List(Vec<Node>),
    Not(Box<Node>),
    Negate(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Binary(BinaryOp, Box<Node>, Box<Node>),
    Call(Function, Vec<Node>),
    /// Depends on `slot` alone; results are remembered by dictionary code in table `table`.
    Remembered {
        table: usize,
        slot: usize,
        inner: Box<Node>,
    },
}

/// What a part of an expression depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    One(usize),
    Many,
}

impl Needs {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, needs) | (needs, Self::Nothing) => needs,
            (Self::One(a), Self::One(b)) if a == b => self,
            _ => Self::Many,
        }
    }
}

/// What a program remembers about one batch of rows; start a new one for every batch.
#[derive(Debug, Default)]
pub struct Memory<'v> {
    tables: Vec<Vec<Option<Operand<'v>>>>,
}

impl Program {
    /// Makes an expression ready.
    pub fn new(expr: &Expr) -> Self {
        let mut program = Self { root: Node::Undefined, slots: Vec::new(), remembered: 0 };
        let (root, needs) = program.ready(expr);
        program.root = program.remember(root, needs);
        program
    }

    /// The names the expression looks up, by slot.
    pub fn slots(&self) -> &[(Scope, String)] {
        &self.slots
    }

    /// The slot whose value alone decides the result, if there is one.
    pub fn only_slot(&self) -> Option<usize> {
        match &self.root {
            Node::Slot(slot) | Node::Remembered { slot, .. } => Some(*slot),
            _ => None,
        }
    }

    /// The slot that the expression is, if it is nothing but a look-up.
    pub fn plain_slot(&self) -> Option<usize> {
        match &self.root {
            Node::Slot(slot) => Some(*slot),
            _ => None,
        }
    }

    /// Whether profiles of users take part.
    pub fn reads_users(&self) -> bool {
        self.slots.iter().any(|(scope, _)| *scope == Scope::User)
    }

    /// The value of the expression in a row.
    pub fn evaluate<'v, R: Rows<'v>>(&'v self, rows: &R, row: usize, memory: &mut Memory<'v>) -> Operand<'v> {
        memory.tables.resize_with(self.remembered, Vec::new);
        evaluate(&self.root, rows, row, memory)
    }

    /// Whether the row passes: only the boolean `true` does.
    pub fn passes<'v, R: Rows<'v>>(&'v self, rows: &R, row: usize, memory: &mut Memory<'v>) -> bool {
        memory.tables.resize_with(self.remembered, Vec::new);
        match &self.root {
            Node::And(..) | Node::Or(..) => truthy(&self.root, rows, row, memory),
            Node::Remembered { table, slot, inner } => remembered(*table, *slot, inner, rows, row, memory, Operand::passes),
            other => evaluate(other, rows, row, memory).passes(),
        }
    }

    fn ready(&mut self, expr: &Expr) -> (Node, Needs) {
        match expr {
            Expr::Literal(value) => (Node::Literal(value.clone()), Needs::Nothing),
            Expr::Undefined => (Node::Undefined, Needs::Nothing),
            Expr::Property(scope, name) => {
                let known = self.slots.iter().position(|(s, n)| s == scope && n == name);
                let slot = known.unwrap_or_else(|| {
                    self.slots.push((*scope, name.clone()));
                    self.slots.len() - 1
                });
                (Node::Slot(slot), Needs::One(slot))
            }
            Expr::Not(inner) => {
                let (node, needs) = self.ready(inner);
                (Node::Not(Box::new(node)), needs)
            }
            Expr::Negate(inner) => {
                let (node, needs) = self.ready(inner);
                (Node::Negate(Box::new(node)), needs)
            }
            Expr::And(a, b) => {
                let (a, b, needs) = self.pair(a, b);
                (Node::And(a, b), needs)
            }
            Expr::Or(a, b) => {
                let (a, b, needs) = self.pair(a, b);
                (Node::Or(a, b), needs)
            }
            Expr::Binary(op, a, b) => {
                let (a, b, needs) = self.pair(a, b);
                (Node::Binary(*op, a, b), needs)
            }
            Expr::List(items) => {
                let (nodes, needs) = self.many(items);
                (Node::List(nodes), needs)
            }
            Expr::Call(function, arguments) => {
                let (nodes, needs) = self.many(arguments);
                (Node::Call(*function, nodes), needs)
            }
        }
    }

    fn pair(&mut self, a: &Expr, b: &Expr) -> (Box<Node>, Box<Node>, Needs) {
        let (a, needs_a) = self.ready(a);
        let (b, needs_b) = self.ready(b);
        let needs = needs_a.and(needs_b);
        if needs == Needs::Many {
            (Box::new(self.remember(a, needs_a)), Box::new(self.remember(b, needs_b)), needs)
        } else {
            (Box::new(a), Box::new(b), needs)
        }
    }

    fn many(&mut self, items: &[Expr]) -> (Vec<Node>, Needs) {
        let ready: Vec<(Node, Needs)> = items.iter().map(|item| self.ready(item)).collect();
        let needs = ready.iter().fold(Needs::Nothing, |all, (_, needs)| all.and(*needs));
        let nodes = ready.into_iter().map(|(node, own)| if needs == Needs::Many { self.remember(node, own) } else { node }).collect();
        (nodes, needs)
    }

    /// Marks a part whose inner parts are not marked; a look-up by itself is as cheap as remembering it.
    fn remember(&mut self, node: Node, needs: Needs) -> Node {
        match (node, needs) {
            (node @ (Node::Slot(_) | Node::Remembered { .. }), _) => node,
            (node, Needs::One(slot)) => {
                let table = self.remembered;
                self.remembered += 1;
                Node::Remembered { table, slot, inner: Box::new(node) }
            }
            (node, _) => node,
        }
    }
}

fn remembered<'v, R: Rows<'v>, T>(
    table: usize,
    slot: usize,
    inner: &'v Node,
    rows: &R,
    row: usize,
    memory: &mut Memory<'v>,
    read: impl FnOnce(&Operand<'v>) -> T,
) -> T {
    let Some(code) = rows.code(row, slot) else {
        return read(&evaluate(inner, rows, row, memory));
    };
    let code = code as usize;
    if let Some(Some(known)) = memory.tables[table].get(code) {
        return read(known);
    }
    let result = evaluate(inner, rows, row, memory);
    let answer = read(&result);
    let known = &mut memory.tables[table];
    if known.len() <= code {
        known.resize(code + 1, None);
    }
    known[code] = Some(result);
    answer
}

fn truthy<'v, R: Rows<'v>>(node: &'v Node, rows: &R, row: usize, memory: &mut Memory<'v>) -> bool {
    match node {
        Node::And(a, b) => truthy(a, rows, row, memory) && truthy(b, rows, row, memory),
        Node::Or(a, b) => truthy(a, rows, row, memory) || truthy(b, rows, row, memory),
        Node::Remembered { table, slot, inner } => remembered(*table, *slot, inner, rows, row, memory, Operand::is_truthy),
        other => evaluate(other, rows, row, memory).is_truthy(),
    }
}

fn evaluate<'v, R: Rows<'v>>(node: &'v Node, rows: &R, row: usize, memory: &mut Memory<'v>) -> Operand<'v> {
    match node {
        Node::Literal(value) => Operand::of(value),
        Node::Undefined => Operand::Undefined,
        Node::Slot(slot) => rows.value(row, *slot),
        Node::List(items) => {
            // An absent element equals nothing, so leaving it out changes no answer.
            let list = items.iter().filter_map(|item| into_value(evaluate(item, rows, row, memory))).collect::<Vec<_>>();
            Operand::List(Cow::Owned(list))
        }
        Node::Not(inner) => match evaluate(inner, rows, row, memory) {
            Operand::Bool(flag) => Operand::Bool(!flag),
            Operand::Undefined | Operand::Null => Operand::Bool(true),
            _ => Operand::Undefined,
        },
        Node::Negate(inner) => match evaluate(inner, rows, row, memory) {
            Operand::Number(number) => Operand::Number(-number),
            _ => Operand::Undefined,
        },
        Node::And(..) | Node::Or(..) => Operand::Bool(truthy(node, rows, row, memory)),
        // A literal list is searched where it stands, so that datetimes in it stay datetimes.
        Node::Binary(op @ (BinaryOp::In | BinaryOp::NotIn), a, b) if let Node::List(items) = &**b => {
            let a = evaluate(a, rows, row, memory);
            let found = a != Operand::Undefined && items.iter().any(|item| equal(&a, &evaluate(item, rows, row, memory)));
            Operand::Bool(found == (*op == BinaryOp::In))
        }
        Node::Binary(op, a, b) => {
            let a = evaluate(a, rows, row, memory);
            let b = evaluate(b, rows, row, memory);
            binary(*op, &a, &b)
        }
        Node::Call(function, arguments) => {
            let mut arguments = arguments.iter().map(|argument| evaluate(argument, rows, row, memory));
            let first = arguments.next().unwrap_or(Operand::Undefined);
            call(*function, first, arguments.next().unwrap_or(Operand::Undefined))
        }
        Node::Remembered { table, slot, inner } => remembered(*table, *slot, inner, rows, row, memory, Operand::clone),
    }
}

fn into_value(operand: Operand<'_>) -> Option<Value> {
    Some(match operand {
        Operand::Undefined => return None,
        Operand::Null => Value::Null,
        Operand::Bool(flag) => Value::Bool(flag),
        Operand::Number(number) => Value::Number(Number::from_f64(number)),
        Operand::Text(text) => Value::String(text.into_owned()),
        Operand::Datetime(ms) => Value::String(model::profile::wall_time(Timestamp(ms))),
        Operand::List(list) => Value::List(list.into_owned()),
        Operand::Object(object) => Value::Object(*object),
        Operand::Borrowed(object) => Value::Object(object.clone()),
    })
}

fn binary<'v>(op: BinaryOp, a: &Operand<'v>, b: &Operand<'v>) -> Operand<'v> {
    match op {
        BinaryOp::Equal => Operand::Bool(equal(a, b)),
        // The exact negation: a missing property differs from every value.
        BinaryOp::NotEqual => Operand::Bool(!equal(a, b)),
        BinaryOp::Less => compared(a, b, Ordering::is_lt),
        BinaryOp::LessOrEqual => compared(a, b, Ordering::is_le),
        BinaryOp::Greater => compared(a, b, Ordering::is_gt),
        BinaryOp::GreaterOrEqual => compared(a, b, Ordering::is_ge),
        BinaryOp::In => member(a, b).map_or(Operand::Undefined, Operand::Bool),
        BinaryOp::NotIn => Operand::Bool(!member(a, b).unwrap_or(false)),
        BinaryOp::Add => match (a, b) {
            (Operand::Number(a), Operand::Number(b)) => Operand::number(a + b),
            (Operand::Text(a), Operand::Text(b)) => Operand::text(format!("{a}{b}")),
            _ => Operand::Undefined,
        },
        BinaryOp::Subtract => calculated(a, b, |a, b| a - b),
        BinaryOp::Multiply => calculated(a, b, |a, b| a * b),
        // Division by zero is not finite, hence undefined; the remainder has the sign of the dividend.
        BinaryOp::Divide => calculated(a, b, |a, b| a / b),
        BinaryOp::Remainder => calculated(a, b, |a, b| a % b),
    }
}

fn calculated<'v>(a: &Operand<'v>, b: &Operand<'v>, with: impl Fn(f64, f64) -> f64) -> Operand<'v> {
    match (a, b) {
        (Operand::Number(a), Operand::Number(b)) => Operand::number(with(*a, *b)),
        _ => Operand::Undefined,
    }
}

fn compared<'v>(a: &Operand<'v>, b: &Operand<'v>, holds: impl Fn(Ordering) -> bool) -> Operand<'v> {
    let order = match (a, b) {
        (Operand::Number(a), Operand::Number(b)) => a.partial_cmp(b),
        (Operand::Text(a), Operand::Text(b)) => Some(a.as_ref().cmp(b.as_ref())),
        (Operand::Datetime(a), Operand::Datetime(b)) => Some(a.cmp(b)),
        (Operand::Datetime(a), Operand::Text(b)) => datetime_ms(b).map(|b| a.cmp(&b)),
        (Operand::Text(a), Operand::Datetime(b)) => datetime_ms(a).map(|a| a.cmp(b)),
        _ => None,
    };
    order.map_or(Operand::Undefined, |order| Operand::Bool(holds(order)))
}

fn equal(a: &Operand<'_>, b: &Operand<'_>) -> bool {
    match (a, b) {
        (Operand::Undefined, Operand::Undefined) | (Operand::Null, Operand::Null) => true,
        (Operand::Bool(a), Operand::Bool(b)) => a == b,
        (Operand::Number(a), Operand::Number(b)) => a == b,
        (Operand::Text(a), Operand::Text(b)) => a == b,
        (Operand::Datetime(a), Operand::Datetime(b)) => a == b,
        (Operand::Datetime(at), Operand::Text(text)) | (Operand::Text(text), Operand::Datetime(at)) => datetime_ms(text) == Some(*at),
        (Operand::List(a), Operand::List(b)) => equal_lists(a, b),
        (a, b) => match (a.as_object(), b.as_object()) {
            (Some(a), Some(b)) => equal_objects(a, b),
            _ => false,
        },
    }
}

fn equal_values(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::List(a), Value::List(b)) => equal_lists(a, b),
        (Value::Object(a), Value::Object(b)) => equal_objects(a, b),
        (a, b) => a == b,
    }
}

fn equal_lists(a: &[Value], b: &[Value]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal_values(a, b))
}

fn equal_objects(a: &Properties, b: &Properties) -> bool {
    a.len() == b.len() && a.iter().all(|(name, value)| b.get(name).is_some_and(|other| equal_values(value, other)))
}

/// Whether `a` is in `b`; `None` where the question makes no sense.
fn member(a: &Operand<'_>, b: &Operand<'_>) -> Option<bool> {
    match (a, b) {
        (Operand::Undefined, _) => None,
        (Operand::Text(a), Operand::Text(b)) => Some(b.contains(a.as_ref())),
        (a, Operand::List(list)) => Some(list.iter().any(|element| equal(a, &Operand::of(element)))),
        _ => None,
    }
}

fn call<'v>(function: Function, x: Operand<'v>, second: Operand<'v>) -> Operand<'v> {
    match function {
        Function::Defined => Operand::Bool(!x.is_absent()),
        Function::Boolean => Operand::Bool(match &x {
            Operand::Text(text) if text == "false" => false,
            other => other.is_truthy(),
        }),
        Function::Number => match x {
            Operand::Number(_) => x,
            Operand::Bool(flag) => Operand::Number(f64::from(u8::from(flag))),
            Operand::Text(text) => parsed_number(&text),
            Operand::Datetime(ms) => Operand::Number(ms as f64 / 1000.0),
            _ => Operand::Undefined,
        },
        Function::String => match x {
            Operand::Undefined | Operand::Null | Operand::Text(_) => x,
            other => Operand::text(other.key().into_owned()),
        },
        Function::Datetime => match x {
            Operand::Undefined | Operand::Datetime(_) => x,
            Operand::Number(seconds) if seconds.abs() < 1e12 => Operand::Datetime((seconds * 1000.0).round() as i64),
            Operand::Number(_) => Operand::Null,
            Operand::Text(text) => datetime_ms(&text).map_or(Operand::Null, Operand::Datetime),
            _ => Operand::Null,
        },
        Function::List => match x {
            Operand::Undefined | Operand::List(_) => x,
            _ => Operand::Null,
        },
        Function::Floor => rounded(&x, f64::floor),
        Function::Round => rounded(&x, f64::round),
        Function::Ceil => rounded(&x, f64::ceil),
        Function::HasPrefix => match (&x, &second) {
            (Operand::Text(text), Operand::Text(prefix)) => Operand::Bool(text.starts_with(prefix.as_ref())),
            _ => Operand::Undefined,
        },
    }
}

fn rounded<'v>(x: &Operand<'v>, with: impl Fn(f64) -> f64) -> Operand<'v> {
    x.as_number().map_or(Operand::Undefined, |number| Operand::Number(with(number)))
}

fn parsed_number<'v>(text: &str) -> Operand<'v> {
    let text = text.trim();
    // Words such as `inf` and `nan` are numbers to the parser and to nobody else.
    let is_spelled_in_digits = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    match text.parse::<f64>() {
        Ok(number) if is_spelled_in_digits => Operand::number(number),
        _ => Operand::Undefined,
    }
}

/// The instant of `YYYY-MM-DD`, `YYYY-MM-DDTHH:MM:SS` (UTC) or either with an offset.
fn datetime_ms(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Some(instant.as_millisecond());
    }
    let wall: jiff::civil::DateTime = text.parse().ok()?;
    // Civil time reaches further than instants do: the last day of the year 9999 is a common word for never.
    i64::try_from(wall.duration_since(jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0)).as_millis()).ok()
}

/// One profile as the only row: `properties[…]` and `user[…]` are the profile's.
pub struct ProfileRow<'v> {
    /// The expression that looks into it.
    pub program: &'v Program,
    /// `$distinct_id` or the group's id.
    pub id: &'v str,
    /// The profile's properties.
    pub properties: &'v Properties,
}

impl<'v> Rows<'v> for ProfileRow<'v> {
    fn value(&self, _row: usize, slot: usize) -> Operand<'v> {
        let (scope, name) = &self.program.slots[slot];
        match (scope, self.properties.get(name)) {
            (Scope::Event, _) => Operand::Undefined,
            (_, Some(value)) => Operand::of(value),
            (_, None) if name == "$distinct_id" || name == "distinct_id" => Operand::Text(Cow::Borrowed(self.id)),
            (_, None) => Operand::Undefined,
        }
    }

    fn code(&self, _row: usize, _slot: usize) -> Option<u32> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use BinaryOp::*;

    fn p(name: &str) -> Expr {
        Expr::Property(Scope::Properties, name.to_owned())
    }
    fn s(text: &str) -> Expr {
        Expr::Literal(Value::from(text))
    }
    fn n(number: f64) -> Expr {
        Expr::Literal(Value::from(number))
    }
    fn b(flag: bool) -> Expr {
        Expr::Literal(Value::Bool(flag))
    }
    fn null() -> Expr {
        Expr::Literal(Value::Null)
    }
    fn op(op: BinaryOp, a: Expr, b: Expr) -> Expr {
        Expr::Binary(op, Box::new(a), Box::new(b))
    }
    fn not(a: Expr) -> Expr {
        Expr::Not(Box::new(a))
    }
    fn and(a: Expr, b: Expr) -> Expr {
        Expr::And(Box::new(a), Box::new(b))
    }
    fn or(a: Expr, b: Expr) -> Expr {
        Expr::Or(Box::new(a), Box::new(b))
    }
    fn call(function: Function, a: Expr) -> Expr {
        Expr::Call(function, vec![a])
    }
    fn list(items: Vec<Expr>) -> Expr {
        Expr::List(items)
    }

    fn row() -> Properties {
        let object: Properties = [("k".to_owned(), Value::from(1))].into_iter().collect();
        [
            ("plan", Value::from("pro")),
            ("age", Value::from(41.5)),
            ("count", Value::from(7)),
            ("nothing", Value::Null),
            ("yes", Value::Bool(true)),
            ("no", Value::Bool(false)),
            ("tags", Value::List(vec![Value::from("a"), Value::from("b"), Value::from(1)])),
            ("none", Value::List(vec![])),
            ("object", Value::Object(object)),
            ("digits", Value::from("12.5")),
            ("seen", Value::from("2024-03-01T10:00:00")),
            ("big", Value::Number(Number::parse("18446744073709551616"))),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }

    /// The result spelled out, with its type.
    fn result(expr: Expr) -> String {
        let program = Program::new(&expr);
        let properties = row();
        let profile = ProfileRow { program: &program, id: "u1", properties: &properties };
        match program.evaluate(&profile, 0, &mut Memory::default()) {
            Operand::Text(text) => format!("{text:?}"),
            Operand::Datetime(ms) => format!("at {ms}"),
            other => other.key().into_owned(),
        }
    }

    #[track_caller]
    fn check(table: Vec<(Expr, &str)>) {
        for (expr, expected) in table {
            let spelled = format!("{expr:?}");
            assert_eq!(result(expr), expected, "{spelled}");
        }
    }

    #[test]
    fn equality_holds_within_a_type_and_is_false_across_types() {
        check(vec![
            (op(Equal, p("plan"), s("pro")), "true"),
            (op(Equal, p("plan"), s("free")), "false"),
            (op(Equal, p("count"), n(7.0)), "true"),
            (op(Equal, p("count"), s("7")), "false"),
            (op(Equal, p("yes"), n(1.0)), "false"),
            (op(Equal, p("nothing"), null()), "true"),
            (op(Equal, p("nothing"), s("null")), "false"),
            (op(Equal, p("absent"), null()), "false"),
            (op(Equal, p("absent"), Expr::Undefined), "true"),
            (op(Equal, p("absent"), s("x")), "false"),
            (op(Equal, p("tags"), list(vec![s("a"), s("b"), n(1.0)])), "true"),
            (op(Equal, p("tags"), list(vec![s("b"), s("a"), n(1.0)])), "false"),
            (op(Equal, p("object"), p("object")), "true"),
            (op(Equal, p("object"), p("tags")), "false"),
        ]);
    }

    #[test]
    fn inequality_is_the_exact_negation_so_a_missing_property_differs_from_everything() {
        check(vec![
            (op(NotEqual, p("plan"), s("pro")), "false"),
            (op(NotEqual, p("plan"), n(1.0)), "true"),
            (op(NotEqual, p("absent"), s("x")), "true"),
            (op(NotEqual, p("absent"), null()), "true"),
            (op(NotEqual, p("nothing"), s("free")), "true"),
            (op(NotEqual, p("nothing"), null()), "false"),
        ]);
    }

    #[test]
    fn order_compares_numbers_strings_and_datetimes_and_is_undefined_across_types() {
        let datetime = |text: &str| call(Function::Datetime, s(text));
        check(vec![
            (op(Greater, p("age"), n(40.0)), "true"),
            (op(GreaterOrEqual, p("age"), n(41.5)), "true"),
            (op(Less, p("age"), n(41.5)), "false"),
            (op(LessOrEqual, p("age"), n(41.5)), "true"),
            (op(Less, p("plan"), s("q")), "true"),
            (op(GreaterOrEqual, p("seen"), s("2024-01-01T00:00:00")), "true"),
            (op(GreaterOrEqual, p("seen"), datetime("2024-03-01T10:00:00")), "true"),
            (op(Less, datetime("2024-01-01"), p("seen")), "true"),
            (op(Less, datetime("2024-01-01"), p("plan")), "undefined"),
            (op(Less, datetime("2024-01-01"), datetime("2024-01-02")), "true"),
            (op(Equal, p("seen"), datetime("2024-03-01T10:00:00Z")), "true"),
            (op(Greater, p("plan"), n(1.0)), "undefined"),
            (op(Greater, p("absent"), n(1.0)), "undefined"),
            (op(Greater, p("nothing"), n(1.0)), "undefined"),
            (op(Greater, p("yes"), b(false)), "undefined"),
        ]);
    }

    #[test]
    fn plus_adds_numbers_and_joins_strings() {
        check(vec![
            (op(Add, p("count"), n(1.5)), "8.5"),
            (op(Add, p("plan"), s("!")), "\"pro!\""),
            (op(Add, p("plan"), n(1.0)), "undefined"),
            (op(Add, p("absent"), n(1.0)), "undefined"),
            (op(Add, p("nothing"), n(1.0)), "undefined"),
        ]);
    }

    #[test]
    fn arithmetic_takes_numbers_only_and_nothing_is_divided_by_zero() {
        check(vec![
            (op(Subtract, p("count"), n(10.0)), "-3"),
            (op(Multiply, p("age"), n(2.0)), "83"),
            (op(Divide, p("count"), n(2.0)), "3.5"),
            (op(Divide, p("count"), n(0.0)), "undefined"),
            (op(Remainder, p("count"), n(0.0)), "undefined"),
            (op(Equal, op(Divide, p("count"), n(0.0)), n(1.0)), "false"),
            (op(Subtract, p("plan"), n(1.0)), "undefined"),
            (op(Multiply, p("yes"), n(1.0)), "undefined"),
            (Expr::Negate(Box::new(p("age"))), "-41.5"),
            (Expr::Negate(Box::new(p("plan"))), "undefined"),
        ]);
    }

    #[test]
    fn a_remainder_has_the_sign_of_the_dividend() {
        check(vec![(op(Remainder, n(7.0), n(3.0)), "1"), (op(Remainder, n(-1.0), n(2.0)), "-1"), (op(Remainder, n(1.0), n(-2.0)), "1")]);
    }

    #[test]
    fn in_finds_substrings_and_typed_elements() {
        check(vec![
            (op(In, s("r"), p("plan")), "true"),
            (op(In, s("x"), p("plan")), "false"),
            (op(In, s("b"), p("tags")), "true"),
            (op(In, n(1.0), p("tags")), "true"),
            (op(In, s("1"), p("tags")), "false"),
            (op(In, p("count"), list(vec![n(1.0), n(7.0)])), "true"),
            (op(In, p("count"), list(vec![s("7")])), "false"),
            (op(In, p("plan"), list(vec![s("pro"), s("free")])), "true"),
            (op(In, n(1.0), p("plan")), "undefined"),
            (op(In, s("b"), p("absent")), "undefined"),
            (op(In, p("absent"), list(vec![s("pro")])), "false"),
            (op(In, p("absent"), p("tags")), "undefined"),
            (op(In, s("b"), p("nothing")), "undefined"),
            (op(NotIn, s("b"), p("tags")), "false"),
            (op(NotIn, s("b"), p("absent")), "true"),
            (op(NotIn, p("plan"), list(vec![s("pro")])), "false"),
        ]);
    }

    #[test]
    fn a_filter_passes_only_on_true() {
        let passes = |expr: Expr| {
            let program = Program::new(&expr);
            let properties = row();
            program.passes(&ProfileRow { program: &program, id: "u1", properties: &properties }, 0, &mut Memory::default())
        };
        assert!(passes(p("yes")));
        assert!(passes(op(In, s("b"), p("tags"))));
        for expr in [p("no"), p("absent"), p("nothing"), p("plan"), p("count"), op(In, s("b"), p("absent")), op(Greater, p("plan"), n(0.0))]
        {
            assert!(!passes(expr));
        }
        assert!(passes(and(p("plan"), p("count"))));
    }

    #[test]
    fn and_and_or_take_the_absent_for_false_and_are_lenient() {
        check(vec![
            (and(b(true), b(true)), "true"),
            (and(b(true), b(false)), "false"),
            (and(b(true), p("absent")), "false"),
            (or(p("absent"), b(true)), "true"),
            (or(p("absent"), p("nothing")), "false"),
            (and(p("plan"), n(1.0)), "true"),
            (or(s(""), n(0.0)), "false"),
            (or(p("none"), p("tags")), "true"),
        ]);
    }

    #[test]
    fn not_turns_the_absent_into_true_and_other_types_into_undefined() {
        check(vec![
            (not(b(true)), "false"),
            (not(b(false)), "true"),
            (not(p("absent")), "true"),
            (not(p("nothing")), "true"),
            (not(p("plan")), "undefined"),
            (not(n(0.0)), "undefined"),
        ]);
    }

    #[test]
    fn floor_round_and_ceil_take_numbers_only() {
        check(vec![
            (call(Function::Floor, p("age")), "41"),
            (call(Function::Ceil, p("age")), "42"),
            (call(Function::Round, p("age")), "42"),
            (call(Function::Round, n(-2.5)), "-3"),
            (call(Function::Floor, p("plan")), "undefined"),
            (call(Function::Floor, p("absent")), "undefined"),
        ]);
    }

    #[test]
    fn defined_means_set_and_null_is_not() {
        check(vec![
            (call(Function::Defined, p("plan")), "true"),
            (call(Function::Defined, p("no")), "true"),
            (call(Function::Defined, p("none")), "true"),
            (call(Function::Defined, p("nothing")), "false"),
            (call(Function::Defined, p("absent")), "false"),
        ]);
    }

    #[test]
    fn string_spells_values() {
        check(vec![
            (call(Function::String, p("plan")), "\"pro\""),
            (call(Function::String, p("count")), "\"7\""),
            (call(Function::String, n(3.0)), "\"3\""),
            (call(Function::String, p("age")), "\"41.5\""),
            (call(Function::String, p("yes")), "\"true\""),
            (call(Function::String, p("nothing")), "null"),
            (call(Function::String, p("absent")), "undefined"),
            (call(Function::String, p("tags")), r#""[\"a\",\"b\",1]""#),
            (call(Function::String, call(Function::Datetime, n(1577836800.0))), "\"2020-01-01T00:00:00\""),
        ]);
    }

    #[test]
    fn number_parses_strings_and_knows_no_other_words() {
        check(vec![
            (call(Function::Number, p("digits")), "12.5"),
            (call(Function::Number, p("plan")), "undefined"),
            (call(Function::Number, s("inf")), "undefined"),
            (call(Function::Number, s("")), "undefined"),
            (call(Function::Number, s("1e3")), "1000"),
            (call(Function::Number, p("yes")), "1"),
            (call(Function::Number, p("no")), "0"),
            (call(Function::Number, p("nothing")), "undefined"),
            (call(Function::Number, p("absent")), "undefined"),
            (call(Function::Number, p("tags")), "undefined"),
            (call(Function::Number, call(Function::Datetime, s("2020-01-01"))), "1577836800"),
        ]);
    }

    #[test]
    fn boolean_is_truthiness_except_for_the_word_false() {
        check(vec![
            (call(Function::Boolean, p("plan")), "true"),
            (call(Function::Boolean, s("true")), "true"),
            (call(Function::Boolean, s("false")), "false"),
            (call(Function::Boolean, s("")), "false"),
            (call(Function::Boolean, n(0.0)), "false"),
            (call(Function::Boolean, n(2.0)), "true"),
            (call(Function::Boolean, p("none")), "false"),
            (call(Function::Boolean, p("tags")), "true"),
            (call(Function::Boolean, p("nothing")), "false"),
            (call(Function::Boolean, p("absent")), "false"),
        ]);
    }

    #[test]
    fn datetime_reads_seconds_dates_and_wall_times() {
        check(vec![
            (call(Function::Datetime, n(1577836800.0)), "at 1577836800000"),
            (call(Function::Datetime, s("2020-01-01")), "at 1577836800000"),
            (call(Function::Datetime, s("2020-01-01T00:00:01")), "at 1577836801000"),
            (call(Function::Datetime, s("2020-01-01 00:00:01")), "at 1577836801000"),
            (call(Function::Datetime, s("2020-01-01T00:00:00.25Z")), "at 1577836800250"),
            (call(Function::Datetime, s("2020-01-01T02:00:00+02:00")), "at 1577836800000"),
            (call(Function::Datetime, p("plan")), "null"),
            (call(Function::Datetime, p("yes")), "null"),
            (call(Function::Datetime, p("absent")), "undefined"),
        ]);
    }

    #[test]
    fn list_keeps_lists_and_makes_null_of_the_rest() {
        check(vec![
            (op(Equal, call(Function::List, p("tags")), p("tags")), "true"),
            (call(Function::List, p("plan")), "null"),
            (call(Function::List, p("absent")), "undefined"),
        ]);
    }

    #[test]
    fn has_prefix_takes_two_strings() {
        let has_prefix = |a, b| Expr::Call(Function::HasPrefix, vec![a, b]);
        check(vec![
            (has_prefix(p("plan"), s("pr")), "true"),
            (has_prefix(p("plan"), s("x")), "false"),
            (has_prefix(p("count"), s("7")), "undefined"),
            (has_prefix(p("absent"), s("x")), "undefined"),
        ]);
    }

    #[test]
    fn a_profile_knows_its_distinct_id() {
        check(vec![(op(Equal, p("$distinct_id"), s("u1")), "true"), (Expr::Property(Scope::Event, "$time".into()), "undefined")]);
    }

    #[test]
    fn a_number_is_spelled_in_its_shortest_decimal() {
        let keys = [1.0, 25.5, -0.0, 1e21, 0.1].map(number_text);
        assert_eq!(keys, ["1", "25.5", "0", "1000000000000000000000", "0.1"]);
        assert_eq!(value_key(&row()["big"]), "18446744073709551616");
        assert_eq!(value_key(&Value::Number(Number::parse("1.50"))), "1.5");
        assert_eq!(value_key(&Value::Number(Number::parse("9007199254740993"))), "9007199254740993");
    }

    /// Rows of one dictionary-encoded column that counts how often it is read.
    struct Coded {
        codes: Vec<u32>,
        words: Vec<&'static str>,
        reads: std::cell::Cell<usize>,
    }

    impl<'v> Rows<'v> for Coded {
        fn value(&self, row: usize, _slot: usize) -> Operand<'v> {
            self.reads.set(self.reads.get() + 1);
            Operand::Text(Cow::Borrowed(self.words[self.codes[row] as usize]))
        }

        fn code(&self, row: usize, _slot: usize) -> Option<u32> {
            Some(self.codes[row])
        }
    }

    #[test]
    fn each_distinct_string_is_compared_once() {
        let program = Program::new(&or(op(Equal, p("plan"), s("pro")), op(In, s("ee"), p("plan"))));
        let rows = Coded { codes: (0..1000).map(|row| row % 3).collect(), words: vec!["pro", "free", "basic"], reads: Default::default() };
        let mut memory = Memory::default();
        let passed = (0..1000).filter(|row| program.passes(&rows, *row, &mut memory)).count();
        assert_eq!(passed, 667);
        assert_eq!(rows.reads.get(), 5, "two sides for `free` and `basic`, one for `pro`");
    }
}
