import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InvalidInputError } from '../../src/errors/index.ts';
import { formatSpiffeId, parseSpiffeId, type SpiffeIdParts, tryParseSpiffeId } from '../../src/identity/spiffe-id.ts';
import { refusal } from './craft.ts';

const characters = (set: string, maxLength: number) =>
  fc.string({ unit: fc.constantFrom(...set), minLength: 1, maxLength });
const segment = characters('abcXYZ019._-', 80).filter((text) => text !== '.' && text !== '..');
const parts = fc.record({ trustDomain: characters('abcxyz019._-', 255), namespace: segment, serviceAccount: segment });

describe('SpiffeId, grammar of facts section 1.6', () => {
  it('reads the three names', () => {
    expect(parseSpiffeId('spiffe://cluster.local/ns/default/sa/sleep')).toEqual({
      id: 'spiffe://cluster.local/ns/default/sa/sleep',
      trustDomain: 'cluster.local',
      namespace: 'default',
      serviceAccount: 'sleep',
    });
  });

  it.each([
    ['', 'spiffeId'],
    ['spiffe://', 'spiffeId'],
    ['http://cluster.local/ns/a/sa/b', 'spiffeId'],
    ['SPIFFE://cluster.local/ns/a/sa/b', 'spiffeId'],
    ['spiffe:///ns/a/sa/b', 'spiffeId.trustDomain'],
    ['spiffe://Cluster.local/ns/a/sa/b', 'spiffeId.trustDomain'],
    ['spiffe://cluster.local:443/ns/a/sa/b', 'spiffeId.trustDomain'],
    ['spiffe://user@cluster.local/ns/a/sa/b', 'spiffeId.trustDomain'],
    [`spiffe://${'a'.repeat(256)}/ns/a/sa/b`, 'spiffeId.trustDomain'],
    ['spiffe://cluster.local/ns//sa/b', 'spiffeId.namespace'],
    ['spiffe://cluster.local/ns/../sa/b', 'spiffeId.namespace'],
    ['spiffe://cluster.local/ns/a%2f/sa/b', 'spiffeId.namespace'],
    ['spiffe://cluster.local/ns/a/sa/', 'spiffeId.serviceAccount'],
    ['spiffe://cluster.local/ns/a/sa/b?x', 'spiffeId.serviceAccount'],
    ['spiffe://cluster.local/ns/a/sa/b\0', 'spiffeId.serviceAccount'],
    ['spiffe://cluster.local/ns/a/sa/b\n', 'spiffeId.serviceAccount'],
    ['spiffe://cluster.local/ns/a/sa/b/', 'spiffeId'],
    ['spiffe://cluster.local/ns/a/sa', 'spiffeId'],
    ['spiffe://cluster.local/sa/a/ns/b', 'spiffeId'],
    ['spiffe://cluster.local/ns/a/sa/b/c', 'spiffeId'],
    [`spiffe://cluster.local/ns/a/sa/${'b'.repeat(2100)}`, 'spiffeId'],
  ])('refuses %j and names %s', (text, field) => {
    expect(refusal(() => parseSpiffeId(text))).toBe(`ERR_IDENTITY_SPIFFE_ID ${field}`);
    expect(() => parseSpiffeId(text)).toThrow(InvalidInputError);
    expect(tryParseSpiffeId(text)).toBeUndefined();
  });

  it('refuses what is no string', () => {
    expect(refusal(() => parseSpiffeId(undefined as unknown as string))).toBe('ERR_IDENTITY_SPIFFE_ID spiffeId');
  });

  it('escapes and cuts what it quotes of a stranger', () => {
    const text = `\x1b[31m${'x'.repeat(1500)}`;
    try {
      parseSpiffeId(text);
      expect.unreachable();
    } catch (error) {
      const { message } = error as Error;
      expect(message).toContain('\\u001b[31mxxx');
      expect(message).not.toContain('\x1b');
      expect(message.length).toBeLessThan(400);
    }
  });

  it('names the part that cannot be written', () => {
    const good: SpiffeIdParts = { trustDomain: 'td', namespace: 'ns', serviceAccount: 'sa' };
    expect(formatSpiffeId(good)).toBe('spiffe://td/ns/ns/sa/sa');
    for (const field of ['trustDomain', 'namespace', 'serviceAccount'] as const) {
      expect(refusal(() => formatSpiffeId({ ...good, [field]: 'a/b' }))).toBe(`ERR_IDENTITY_SPIFFE_ID ${field}`);
      expect(refusal(() => formatSpiffeId({ ...good, [field]: undefined as never }))).toBe(
        `ERR_IDENTITY_SPIFFE_ID ${field}`,
      );
    }
    expect(refusal(() => formatSpiffeId({ ...good, serviceAccount: 'b'.repeat(2100) }))).toBe(
      'ERR_IDENTITY_SPIFFE_ID serviceAccount',
    );
  });

  it('reads back whatever it writes', () => {
    fc.assert(
      fc.property(parts, (given) => {
        const id = formatSpiffeId(given);
        expect(parseSpiffeId(id)).toEqual({ id, ...given });
      }),
    );
  });

  it('accepts only what it would write itself', () => {
    const near = fc.tuple(parts, fc.nat(), fc.string({ maxLength: 2 })).map(([given, at, noise]) => {
      const id = formatSpiffeId(given);
      const cut = at % (id.length + 1);
      return id.slice(0, cut) + noise + id.slice(cut + (at % 2));
    });
    fc.assert(
      fc.property(fc.oneof(near, fc.string()), (text) => {
        const found = tryParseSpiffeId(text);
        if (found !== undefined) expect(formatSpiffeId(found)).toBe(text);
      }),
      { numRuns: 500 },
    );
  });
});
