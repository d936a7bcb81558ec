import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodePem, encodePem } from '../../src/identity/pem.ts';
import { refusal } from './craft.ts';

const two = `${encodePem('CERTIFICATE', Buffer.from('one'))}${encodePem('CERTIFICATE', Buffer.from('two'))}`;
const decode = (text: string) => decodePem('CERTIFICATE', text, 'chainPem');

describe('PEM, RFC 7468', () => {
  it('writes lines of 64 characters', () => {
    expect(encodePem('X', Buffer.alloc(50))).toBe(`-----BEGIN X-----\n${'A'.repeat(64)}\nAAA=\n-----END X-----\n`);
  });

  it('section 2: passes over text between blocks, and takes any line ending', () => {
    const blocks = decode(`subject=/CN=x\r\n${two.replaceAll('\n', '\r\n')}# end`);
    expect(blocks.map((block) => Buffer.from(block).toString())).toEqual(['one', 'two']);
    expect(decode('no block at all')).toEqual([]);
  });

  it.each([
    ['another label', two.replaceAll('CERTIFICATE', 'PRIVATE KEY'), 'chainPem[0]'],
    ['another label further down', two + encodePem('PRIVATE KEY', Buffer.from('k')), 'chainPem[2]'],
    ['a block without an end', two.slice(0, -30), 'chainPem[1]'],
    ['a character that is no base64', two.replace('b25l', 'b2*l'), 'chainPem[0]'],
    ['base64 cut short', two.replace('dHdv', 'dHd'), 'chainPem[1]'],
    ['an empty block', '-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----', 'chainPem[0]'],
    ['a megabyte', ' '.repeat((1 << 20) + 1), 'chainPem'],
  ])('refuses %s whole', (_, text, field) => {
    expect(refusal(() => decode(text))).toBe(`ERR_IDENTITY_PEM ${field}`);
  });

  it('shows nothing of a block in its errors', () => {
    const secret = encodePem('PRIVATE KEY', Buffer.from('a very secret key of many bytes'));
    const base64 = Buffer.from('a very secret key').toString('base64').slice(0, 20);
    try {
      decode(secret);
      expect.unreachable();
    } catch (error) {
      expect(String(error)).not.toContain(base64);
      expect(JSON.stringify(error)).not.toContain(base64);
    }
  });

  it('reads back what it writes', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ minLength: 1, maxLength: 200 }), { maxLength: 5 }), (blocks) => {
        const text = blocks.map((block) => encodePem('CERTIFICATE', block)).join('');
        expect(decode(text).map((block) => Uint8Array.from(block))).toEqual(blocks);
      }),
    );
  });
});
