//! Expressions of `where`, `on` and friends, parsed (`contract/read.md` 4). `wire` parses them, `query` evaluates them.

use crate::value::Value;

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// A literal; `undefined` is [`Expr::Undefined`].
    Literal(Value),
    /// The value of a property that is absent.
    Undefined,
    /// A list of expressions.
    List(Vec<Expr>),
    /// `properties["name"]` and its relatives.
    Property(Scope, String),
    /// `not x`.
    Not(Box<Expr>),
    /// `-x`.
    Negate(Box<Expr>),
    /// `a and b`.
    And(Box<Expr>, Box<Expr>),
    /// `a or b`.
    Or(Box<Expr>, Box<Expr>),
    /// A comparison, membership or arithmetic operator.
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    /// A call of a function.
    Call(Function, Vec<Expr>),
}

/// What a property is looked up in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// `properties[…]`: of the event, or of the profile where profiles are read.
    Properties,
    /// `user[…]`: of the profile of the event's user.
    User,
    /// `event[…]`: of the event itself (`$time`, …).
    Event,
    /// `group_properties[…]`: of the profiles of the groups that the event, or the user, names.
    Group,
}

/// A binary operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `in`
    In,
    /// `not in`
    NotIn,
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Remainder,
}

/// A function of the language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Function {
    /// `boolean(x)`
    Boolean,
    /// `number(x)`
    Number,
    /// `string(x)`
    String,
    /// `datetime(x)`
    Datetime,
    /// `list(x)`
    List,
    /// `floor(x)`
    Floor,
    /// `round(x)`
    Round,
    /// `ceil(x)`
    Ceil,
    /// `defined(x)`
    Defined,
    /// `has_prefix(s, prefix)`
    HasPrefix,
}
