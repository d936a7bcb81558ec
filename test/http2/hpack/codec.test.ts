import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { HeaderField } from '../../../src/http2/header-field.ts';
import { HpackDecoder } from '../../../src/http2/hpack/decoder.ts';
import { HpackEncoder } from '../../../src/http2/hpack/encoder.ts';

function encode(encoder: HpackEncoder, fields: readonly HeaderField[]): Buffer {
  const bound = encoder.bound(fields);
  const out = Buffer.alloc(bound);
  const end = encoder.encode(fields, out, 0);
  expect(end).toBeLessThanOrEqual(bound);
  return out.subarray(0, end);
}
const decode = (decoder: HpackDecoder, block: Buffer): HeaderField[] => decoder.decode(block, 0, block.length);
const bytes = (hex: string): Buffer => Buffer.from(hex.replaceAll(' ', ''), 'hex');
const compressionError = expect.objectContaining({ code: 'ERR_HTTP2_COMPRESSION', errorCode: 9 });

const name = fc.constantFrom('baggage', ':authority', 'forwarded', 'traceparent', 'x', 'via', 'authorization');
const value = fc.oneof(
  fc.constantFrom('', 'a', '10.0.0.1:80'),
  fc.uint8Array({ maxLength: 300 }).map((octets) => Buffer.from(octets).toString('latin1')),
);
const list = fc.array(fc.tuple(name, value), { maxLength: 12 });

describe('HPACK, both ends', () => {
  it('gives back any sequence of header lists, through any changes of the table size', () => {
    const step = fc.record({ fields: list, peerTable: fc.option(fc.integer({ min: 0, max: 8192 }), { freq: 4 }) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 20 }), fc.integer({ min: 0, max: 8192 }), (steps, own) => {
        const encoder = new HpackEncoder({ maxTableBytes: own, unindexed: ['traceparent'], neverIndexed: ['via'] });
        const decoder = new HpackDecoder(4096, 1 << 20);
        for (const { fields, peerTable } of steps) {
          if (peerTable !== null) {
            encoder.setPeerTableBytes(peerTable);
            decoder.setMaxTableBytes(peerTable);
          }
          expect(decode(decoder, encode(encoder, fields))).toEqual(fields);
          expect(decoder.tableBytes).toBe(encoder.tableBytes);
        }
      }),
    );
  });

  it('throws nothing but compression errors at random bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (octets) => {
        try {
          decode(new HpackDecoder(4096, 4096), Buffer.from(octets));
        } catch (error) {
          expect(error).toEqual(compressionError);
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe('HpackEncoder', () => {
  it('sends a repeated field as one byte, and never indexes what does not repeat or is secret', () => {
    const encoder = new HpackEncoder({ unindexed: ['traceparent'], neverIndexed: ['authorization'] });
    const fields: HeaderField[] = [
      [':method', 'CONNECT'],
      [':authority', '10.244.1.7:8080'],
      ['baggage', 'k8s.cluster.name=Kubernetes,k8s.namespace.name=default'],
    ];
    encode(encoder, fields);
    // :method has no static entry for CONNECT, so it is dynamic too: newest is baggage (62), then authority, then method.
    expect(encode(encoder, fields).toString('hex')).toBe('c0bfbe');
    const before = encoder.tableBytes;
    expect(encode(encoder, [['traceparent', '00-1']])[0]).toBe(0x00);
    expect(encode(encoder, [['authorization', 'Basic x']])[0]).toBe(0x1f); // never indexed, name index 23: 1f 08
    expect(encoder.tableBytes).toBe(before);
  });

  it('RFC 7541 section 4.2: tells the smallest size in between and the final one', () => {
    const encoder = new HpackEncoder();
    encoder.setPeerTableBytes(0);
    encoder.setPeerTableBytes(2048);
    // 20: size 0. 3f e1 0f: size 2048. 82: GET
    expect(encode(encoder, [[':method', 'GET']]).toString('hex')).toBe('203fe10f82');
    expect(encode(encoder, [[':method', 'GET']]).toString('hex')).toBe('82');
  });

  it('does not let one large field push everything else out of the table', () => {
    const encoder = new HpackEncoder();
    encode(encoder, [['baggage', 'a=b']]);
    encode(encoder, [['x', 'y'.repeat(4000)]]);
    expect(encode(encoder, [['baggage', 'a=b']]).toString('hex')).toBe('be');
  });
});

describe('HpackDecoder', () => {
  it.each([
    ['2.3.3: index 0', '80'],
    ['2.3.3: index beyond both tables', 'be'],
    ['2.3.3: name index beyond both tables', '7e 01 61'],
    ['4.2: size update above the announced size', '3f e2 1f'], // 4097
    ['4.2: size update behind a field', '82 20'],
    ['4.2: three size updates', '20 20 20 82'],
    ['5.2: string longer than the block', '40 05 61'],
    ['5.2: block ends inside a field', '40 01 61'],
    ['5.2: Huffman string with EOS', '00 84 ff ff ff ff 00'],
  ])('RFC 7541 section %s is a compression error', (_what, hex) => {
    expect(() => decode(new HpackDecoder(4096, 4096), bytes(hex))).toThrow(compressionError);
  });

  it('RFC 7541 section 4.2: wants the update after a smaller SETTINGS_HEADER_TABLE_SIZE', () => {
    const decoder = new HpackDecoder(4096, 4096);
    decoder.setMaxTableBytes(100);
    expect(() => decode(decoder, bytes('82'))).toThrow(compressionError);
    expect(decode(decoder, bytes('3f45 82'))).toEqual([[':method', 'GET']]); // 3f 45: size 100
  });

  it('keeps nothing beyond the list limit, and its table right: a bomb of references costs no memory', () => {
    const decoder = new HpackDecoder(4096, 16_384);
    const large = 'v'.repeat(3000);
    const literal = encode(new HpackEncoder({ huffman: false }), [['bomb', large]]);
    expect(decode(decoder, literal)).toEqual([['bomb', large]]);
    const fields = decode(decoder, Buffer.alloc(60_000, 0xbe)); // 60,000 × entry 62: 182 MB of header list
    expect(fields).toHaveLength(5);
    expect(decoder.overflowed).toBe(true);
    expect(decoder.listBytes).toBe(60_000 * 3036);
    expect(decode(decoder, bytes('be'))).toEqual([['bomb', large]]);
    expect(decoder.overflowed).toBe(false);
  });

  it('RFC 7541 section 4.4: an entry larger than the table empties it', () => {
    const decoder = new HpackDecoder(100, 65_536);
    decode(decoder, bytes('40 01 61 01 62'));
    expect(decoder.tableBytes).toBe(34);
    decode(decoder, Buffer.concat([bytes('40 01 61 7f 01'), Buffer.alloc(128, 0x62)]));
    expect(decoder.tableBytes).toBe(0);
  });
});
