/** Printable ASCII without quote and backslash: what needs no look at each character. */
const PLAIN = /^[ !#-[\]-~]*$/;
/** Controls, formats (bidi overrides), lone surrogates, private and unassigned characters, and separators other than a space. */
const HIDDEN = /(?! )[\p{C}\p{Z}]/gu;
const SPECIAL = /["\\]|(?! )[\p{C}\p{Z}]/gu;

/**
 * A string as Rust's `{:?}` writes it, which is what ztunnel's plain log has: quoted, `"` and `\` escaped, hidden characters
 * as `\n`, `\t`, `\u{202e}`. So one value can neither end a line nor pose as another field.
 */
export function quotePlain(value: string, maxLength: number): string {
  const shown = cut(value, maxLength);
  return PLAIN.test(shown) ? `"${shown}"` : `"${shown.replace(SPECIAL, escapePlain)}"`;
}

/** A JSON string; hidden characters that JSON would leave as they are (C1 controls, bidi overrides) are escaped too. */
export function quoteJson(value: string, maxLength: number): string {
  const shown = cut(value, maxLength);
  return PLAIN.test(shown) ? `"${shown}"` : JSON.stringify(shown).replace(HIDDEN, escapeJson);
}

function cut(value: string, maxLength: number): string {
  return value.length > maxLength ? `${value.slice(0, maxLength)}…` : value;
}

function escapePlain(char: string): string {
  switch (char) {
    case '"':
      return '\\"';
    case '\\':
      return '\\\\';
    case '\n':
      return '\\n';
    case '\r':
      return '\\r';
    case '\t':
      return '\\t';
    case '\0':
      return '\\0';
    default:
      return `\\u{${char.codePointAt(0)!.toString(16)}}`;
  }
}

function escapeJson(char: string): string {
  let escaped = '';
  for (let at = 0; at < char.length; at++) escaped += `\\u${char.charCodeAt(at).toString(16).padStart(4, '0')}`;
  return escaped;
}
