// Conditions on properties, and the expression of `where` that says the same. Pure.

/** What a condition asks of a property, and how people say it. */
export const TESTS = {
  is: 'is',
  not: 'is not',
  has: 'contains',
  over: 'is more than',
  under: 'is less than',
  set: 'is set',
  unset: 'is not set',
} as const;
export type Test = keyof typeof TESTS;
export type Condition = { property: string; test: Test; value?: string };

/** Whether a test compares with a value. */
export const takesValue = (test: Test) => test !== 'set' && test !== 'unset';

const isNumber = (text: string) => /^-?\d+(\.\d+)?([eE][+-]?\d+)?$/.test(text.trim());

/** A text of an expression, whatever is in it. */
export const quoted = (text: string) => JSON.stringify(text);

function expressionOf({ property, test, value = '' }: Condition): string {
  const of = `properties[${quoted(property)}]`;
  const ordered = (sign: string) => `${of} ${sign} ${isNumber(value) ? value.trim() : quoted(value)}`;
  switch (test) {
    case 'is':
    case 'not': {
      // What was typed may have been sent as a text, a number or a truth value.
      const same = [`${of} == ${quoted(value)}`];
      if (isNumber(value)) same.push(`${of} == ${value.trim()}`);
      if (value === 'true' || value === 'false') same.push(`${of} == ${value}`);
      return test === 'is' ? `(${same.join(' or ')})` : `not (${same.join(' or ')})`;
    }
    case 'has':
      return `${quoted(value)} in ${of}`;
    case 'over':
      return ordered('>');
    case 'under':
      return ordered('<');
    case 'set':
      return `defined(${of})`;
    case 'unset':
      return `not defined(${of})`;
  }
}

/** All conditions as one expression; nothing where there are none. */
export function whereOf(conditions: Condition[]): string | undefined {
  return conditions.length === 0 ? undefined : conditions.map((condition) => `(${expressionOf(condition)})`).join(' and ');
}

/** Conditions of an address: what is none is left out. */
export function conditionsIn(value: unknown): Condition[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((found: unknown) => {
    const { property, test, value } = (found ?? {}) as Record<string, unknown>;
    if (typeof property !== 'string' || typeof test !== 'string' || !Object.hasOwn(TESTS, test)) return [];
    return [{ property, test: test as Test, ...(takesValue(test as Test) && { value: typeof value === 'string' ? value : '' }) }];
  });
}
