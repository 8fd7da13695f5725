// JSON whose whole numbers stay what was sent, beyond what a double holds too. Pure.

export type Json = null | boolean | number | bigint | string | Json[] | { [name: string]: Json };

type Source = { source?: string };

/** Reads JSON. Whole numbers beyond 2⁵³ become big integers where the browser tells how a number was written. */
export function exact(text: string): Json {
  const reviver = (_name: string, value: unknown, context?: Source): unknown => {
    if (typeof value !== 'number' || Number.isSafeInteger(value)) return value;
    const written = context?.source ?? '';
    return /^-?\d+$/.test(written) ? BigInt(written) : value;
  };
  return JSON.parse(text, reviver) as Json;
}

/** A value as text: strings as they are, everything else as JSON. */
export function textOf(value: Json | undefined): string {
  if (value === undefined) return '';
  return typeof value === 'string' ? value : written(value);
}

/** JSON in one line, with a space where it helps to read. */
function written(value: Json): string {
  if (typeof value === 'bigint') return String(value);
  if (Array.isArray(value)) return `[${value.map(written).join(', ')}]`;
  if (typeof value === 'object' && value !== null) return `{${Object.entries(value).map(([name, inner]) => `${JSON.stringify(name)}: ${written(inner)}`).join(', ')}}`;
  return JSON.stringify(value);
}

export function typeOf(value: Json): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'list';
  return typeof value === 'bigint' ? 'number' : typeof value;
}
