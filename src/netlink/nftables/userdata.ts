import { invalid } from './error.ts';

/** nft's own bound on a comment: `NFTNL_UDATA_COMMENT_MAXLEN`, NUL included. */
const COMMENT_MAX_BYTES = 128;

/**
 * User data as libnftnl keeps it, so that `nft list` shows our comments: records of type (1 byte), length (1 byte), value;
 * a comment is text with a NUL.
 *
 * @throws {InvalidInputError} `ERR_NFTABLES_INVALID` for a comment over 127 bytes, with a NUL or with a quote (nft cannot read it back)
 */
export function encodeComment(type: number, comment: string, field: string): Buffer {
  const bytes = Buffer.from(comment);
  if (bytes.length >= COMMENT_MAX_BYTES) {
    throw invalid(field, `${bytes.length} bytes, nft shows at most ${COMMENT_MAX_BYTES - 1}`);
  }
  if (/[\0\n"]/.test(comment)) throw invalid(field, 'a comment holds no NUL, line end or double quote');
  const record = Buffer.alloc(2 + bytes.length + 1);
  record[0] = type;
  record[1] = bytes.length + 1;
  record.set(bytes, 2);
  return record;
}

/** The text of the first record of `type`, or nothing. A record that runs past the end ends the reading. */
export function decodeComment(type: number, userdata: Uint8Array): string | undefined {
  let at = 0;
  while (at + 2 <= userdata.length) {
    const length = userdata[at + 1]!;
    const end = at + 2 + length;
    if (end > userdata.length) return undefined;
    if (userdata[at] === type) {
      const text = Buffer.from(userdata.buffer, userdata.byteOffset + at + 2, length);
      const nul = text.indexOf(0);
      return text.toString('utf8', 0, nul < 0 ? length : nul);
    }
    at = end;
  }
  return undefined;
}
