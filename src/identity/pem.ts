import { refuseInput } from './errors.ts';

/** The most text that is looked at for PEM blocks: room for some hundred roots. */
export const PEM_MAX_BYTES = 1 << 20;

/** One DER value as PEM text (RFC 7468): 64 characters a line, `\n` at the end of each. */
export function encodePem(label: string, der: Uint8Array): string {
  const base64 = Buffer.from(der.buffer, der.byteOffset, der.byteLength).toString('base64');
  return `-----BEGIN ${label}-----\n${base64.replace(/.{1,64}/g, '$&\n')}-----END ${label}-----\n`;
}

/**
 * The DER values of every block with `label` in a PEM text, in their order. Text between blocks is passed over, as
 * RFC 7468 section 2 lets it; blocks with another label, broken base64 and unfinished blocks are errors, so that half a
 * bundle is never taken for a whole one.
 *
 * @throws {InvalidInputError} `ERR_IDENTITY_PEM` with `field` naming the text, `chainPem`, or the block, `chainPem[2]`.
 */
export function decodePem(label: string, text: string, field: string): Uint8Array[] {
  const fault = (message: string, at = field): never =>
    refuseInput({ code: 'ERR_IDENTITY_PEM', op: 'identity.decodePem', field: at, message });
  if (typeof text !== 'string') return fault(`expected PEM text, got ${typeof text}`);
  if (text.length > PEM_MAX_BYTES) return fault(`${text.length} bytes, at most ${PEM_MAX_BYTES}`);
  const blocks: Uint8Array[] = [];
  let at = 0;
  for (;;) {
    const begin = text.indexOf('-----BEGIN ', at);
    if (begin < 0) break;
    const here = `${field}[${blocks.length}]`;
    const headerEnd = text.indexOf('-----', begin + 11);
    const found = headerEnd < 0 ? '' : text.slice(begin + 11, headerEnd);
    if (found !== label) fault(`expected a block "${label}"`, here);
    const footer = `-----END ${label}-----`;
    const end = text.indexOf(footer, headerEnd + 5);
    if (end < 0) fault(`the block "${label}" does not end`, here);
    const base64 = text.slice(headerEnd + 5, end).replace(/[ \t\r\n]+/g, '');
    if (base64.length % 4 !== 0 || !/^[A-Za-z0-9+/]+={0,2}$/.test(base64)) fault('not base64', here);
    blocks.push(Buffer.from(base64, 'base64'));
    at = end + footer.length;
  }
  return blocks;
}
