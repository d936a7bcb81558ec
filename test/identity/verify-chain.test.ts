import { beforeAll, describe, expect, it } from 'vitest';
import { KEY_USAGE_CRL_SIGN, KEY_USAGE_KEY_ENCIPHERMENT } from '../../src/identity/certificate.ts';
import { authorityExtensions, extension, leafExtensions } from '../../src/identity/certificate-writer.ts';
import { derOctetString } from '../../src/identity/der-writer.ts';
import { ID_KP_CLIENT_AUTH, ID_KP_SERVER_AUTH } from '../../src/identity/oids.ts';
import type { SpiffeId } from '../../src/identity/spiffe-id.ts';
import { type VerifyChainOptions, verifyChain } from '../../src/identity/verify-chain.ts';
import { bundlePem } from '../../src/identity/workload-certificate.ts';
import {
  altNames,
  craft,
  craftCa,
  craftLeaf,
  extendedKeyUsage,
  HOUR,
  keyUsage,
  type Made,
  NOW,
  refusal,
} from './craft.ts';

const SLEEP = 'spiffe://cluster.local/ns/default/sa/sleep' as SpiffeId;
const HTTPBIN = 'spiffe://cluster.local/ns/default/sa/httpbin' as SpiffeId;
const FOREIGN = 'spiffe://other.example/ns/default/sa/sleep' as SpiffeId;

let root: Made;
let intermediate: Made;
let leaf: Made;

beforeAll(async () => {
  root = await craftCa('root');
  intermediate = await craftCa('intermediate', root, 0);
  leaf = await craftLeaf(intermediate, SLEEP);
});

function verify(chain: readonly Made[], more: Partial<VerifyChainOptions> = {}) {
  return verifyChain({
    chain: chain.map(({ certificate }) => certificate.der),
    roots: [root.certificate],
    purpose: 'client',
    now: NOW,
    expected: { trustDomain: 'cluster.local' },
    ...more,
  });
}

const leafWith = (...extensions: readonly Uint8Array[]): Promise<Made> =>
  craft({ issuer: intermediate, extensions: () => extensions });

describe('verifyChain accepts', () => {
  it('a leaf through an intermediate to a root, in either role', () => {
    for (const purpose of ['client', 'server'] as const)
      expect(verify([leaf, intermediate], { purpose })).toEqual({
        id: SLEEP,
        trustDomain: 'cluster.local',
        namespace: 'default',
        serviceAccount: 'sleep',
      });
  });

  it('PEM, as a CA sends it', () => {
    const chain = bundlePem([leaf.certificate, intermediate.certificate]);
    expect(verify([], { chain, roots: bundlePem([root.certificate]) }).id).toBe(SLEEP);
  });

  it('a leaf that the root itself signed', async () => {
    expect(verify([await craftLeaf(root, SLEEP)]).id).toBe(SLEEP);
  });

  it('intermediates in any order, ones that lead nowhere, and the root among them', async () => {
    const lower = await craftCa('lower', await craftCa('upper', root, 1), 0);
    const upper = await craftCa('upper', root, 1);
    const below = await craftCa('lower', upper, 0);
    const deep = await craftLeaf(below, SLEEP);
    expect(verify([deep, lower, root, intermediate, upper, below]).id).toBe(SLEEP);
  });

  it('an intermediate that a longer path, which failed, had used before', async () => {
    const tight = await craftCa('tight', undefined, 1);
    const direct = await craftCa('lower', tight, 3);
    const detour = await craftCa('detour', direct, 3);
    const around = await craftCa('lower', detour, 3, { key: direct.key });
    const under = await craftLeaf(direct, SLEEP);
    expect(verify([under, around, detour, direct], { roots: [tight.certificate] }).id).toBe(SLEEP);
  });

  it('one of several roots, also one with the same name', async () => {
    const roots = [(await craftCa('root')).certificate, (await craftCa('x')).certificate, root.certificate];
    expect(verify([leaf, intermediate], { roots }).id).toBe(SLEEP);
  });

  it('RFC 5280 section 4.2.1.9: a self-issued intermediate, which a path length does not count', async () => {
    const tight = await craftCa('tight', undefined, 0);
    const rollover = await craftCa('tight', tight, 0);
    const under = await craftLeaf(rollover, SLEEP);
    expect(verify([under, rollover], { roots: [tight.certificate] }).id).toBe(SLEEP);
  });

  it('the first and the last millisecond of a life', () => {
    expect(verify([leaf, intermediate], { now: NOW - HOUR }).id).toBe(SLEEP);
    expect(verify([leaf, intermediate], { now: NOW + HOUR }).id).toBe(SLEEP);
  });

  it('facts section 1.6 outbound: one of the expected identities', () => {
    expect(verify([leaf, intermediate], { expected: { oneOf: [HTTPBIN, SLEEP] } }).id).toBe(SLEEP);
  });

  it('facts section 1.6: passes over URIs that are no Istio identity', async () => {
    const odd = await leafWith(altNames([6, 'https://x.example'], [2, 'x.example'], [6, SLEEP], [6, SLEEP]));
    expect(verify([odd, intermediate]).id).toBe(SLEEP);
  });

  it('section 11.6 of the facts: a leaf without key usages, for these bind where they are present', async () => {
    expect(verify([await leafWith(altNames([6, SLEEP])), intermediate]).id).toBe(SLEEP);
  });

  it('an identity beside another one only where the caller takes ztunnel’s rule', async () => {
    const both = await leafWith(altNames([6, FOREIGN], [6, SLEEP]));
    expect(refusal(() => verify([both, intermediate]))).toBe('ERR_IDENTITY_SEVERAL_SPIFFE_IDS chain[0]');
    expect(verify([both, intermediate], { severalIds: 'first' }).id).toBe(FOREIGN);
    expect(verify([both, intermediate], { severalIds: 'first', expected: { oneOf: [SLEEP] } }).id).toBe(FOREIGN);
  });
});

describe('verifyChain refuses a leaf', () => {
  it('before and after its time', () => {
    expect(refusal(() => verify([leaf, intermediate], { now: NOW - HOUR - 1 }))).toBe(
      'ERR_IDENTITY_NOT_YET_VALID chain[0]',
    );
    expect(refusal(() => verify([leaf, intermediate], { now: NOW + HOUR + 1 }))).toBe('ERR_IDENTITY_EXPIRED chain[0]');
  });

  it('for the other role', async () => {
    const server = await leafWith(altNames([6, SLEEP]), extendedKeyUsage(ID_KP_SERVER_AUTH));
    const client = await leafWith(altNames([6, SLEEP]), extendedKeyUsage(ID_KP_CLIENT_AUTH));
    const wrong = 'ERR_IDENTITY_EXTENDED_KEY_USAGE chain[0]';
    expect(refusal(() => verify([server, intermediate]))).toBe(wrong);
    expect(refusal(() => verify([client, intermediate], { purpose: 'server' }))).toBe(wrong);
    expect(verify([server, intermediate], { purpose: 'server' }).id).toBe(SLEEP);
    const any = await leafWith(altNames([6, SLEEP]), extendedKeyUsage('2.5.29.37.0'));
    expect(refusal(() => verify([any, intermediate]))).toBe(wrong);
  });

  it('whose key may not sign', async () => {
    const mute = await leafWith(altNames([6, SLEEP]), keyUsage(KEY_USAGE_KEY_ENCIPHERMENT));
    expect(refusal(() => verify([mute, intermediate]))).toBe('ERR_IDENTITY_KEY_USAGE chain[0]');
  });

  it('that is a CA', () => {
    expect(refusal(() => verify([intermediate]))).toBe('ERR_IDENTITY_LEAF_IS_CA chain[0]');
  });

  it('with a critical extension that is not known', async () => {
    const odd = await leafWith(altNames([6, SLEEP]), extension('1.2.3.4', true, derOctetString(Buffer.of(1))));
    expect(refusal(() => verify([odd, intermediate]))).toBe('ERR_IDENTITY_EXTENSION chain[0]');
  });

  it.each([
    ['a DNS name alone', altNames([2, 'cluster.local'])],
    ['a DNS name that reads like an identity', altNames([2, SLEEP])],
    ['a URI that is no SPIFFE id', altNames([6, 'https://cluster.local/ns/default/sa/sleep'])],
    ['a SPIFFE id that is not Istio’s', altNames([6, 'spiffe://cluster.local/sleep'])],
    ['an identity behind a NUL', altNames([6, `${SLEEP}\0.example`])],
  ])('with %s', async (_, names) => {
    const odd = await leafWith(names);
    expect(refusal(() => verify([odd, intermediate]))).toBe('ERR_IDENTITY_NO_SPIFFE_ID chain[0]');
  });

  it('without any name', async () => {
    const bare = await leafWith(keyUsage(1));
    expect(refusal(() => verify([bare, intermediate]))).toBe('ERR_IDENTITY_NO_SPIFFE_ID chain[0]');
  });

  it('facts section 1.6 inbound: of another trust domain', async () => {
    const foreign = await craftLeaf(intermediate, FOREIGN);
    expect(refusal(() => verify([foreign, intermediate]))).toBe('ERR_IDENTITY_TRUST_DOMAIN chain[0]');
  });

  it('facts section 1.6 outbound: that is not expected, and anyone where nobody is', () => {
    for (const oneOf of [[HTTPBIN], []])
      expect(refusal(() => verify([leaf, intermediate], { expected: { oneOf } }))).toBe(
        'ERR_IDENTITY_UNEXPECTED_PEER chain[0]',
      );
  });
});

describe('verifyChain refuses a path', () => {
  it('to an unknown root', async () => {
    const other = await craftCa('another root');
    expect(refusal(() => verify([leaf, intermediate], { roots: [other.certificate] }))).toBe(
      'ERR_IDENTITY_UNKNOWN_ISSUER chain[1]',
    );
  });

  it('to a root that only has the name of the true one', async () => {
    const twin = await craftCa('root');
    expect(refusal(() => verify([leaf, intermediate], { roots: [twin.certificate] }))).toBe(
      'ERR_IDENTITY_SIGNATURE chain[1]',
    );
  });

  it('with an intermediate left out', () => {
    expect(refusal(() => verify([leaf]))).toBe('ERR_IDENTITY_UNKNOWN_ISSUER chain[0]');
  });

  it('to a root that the peer brought', async () => {
    const own = await craftCa('own');
    const theirs = await craftLeaf(own, SLEEP);
    expect(refusal(() => verify([theirs, own]))).toBe('ERR_IDENTITY_UNKNOWN_ISSUER chain[1]');
  });

  it('through an intermediate that is no CA', async () => {
    const pretender = await craft({
      subject: 'pretender',
      issuer: root,
      extensions: (_, issuers) => leafExtensions(HTTPBIN, issuers),
    });
    const plain = await craft({ subject: 'plain', issuer: root, extensions: () => [keyUsage(1 << 5)] });
    for (const fake of [pretender, plain]) {
      const under = await craftLeaf(fake, SLEEP);
      expect(refusal(() => verify([under, fake]))).toBe('ERR_IDENTITY_NOT_A_CA chain[1]');
    }
  });

  it('longer than an intermediate or the root allows', async () => {
    const below = await craftCa('below', intermediate, 0);
    const deep = await craftLeaf(below, SLEEP);
    expect(refusal(() => verify([deep, below, intermediate]))).toBe('ERR_IDENTITY_PATH_LENGTH chain[2]');
    const tight = await craftCa('tight', undefined, 0);
    const under = await craftCa('under', tight, 0);
    const last = await craftLeaf(under, SLEEP);
    expect(refusal(() => verify([last, under], { roots: [tight.certificate] }))).toBe(
      'ERR_IDENTITY_PATH_LENGTH roots[0]',
    );
  });

  it('through a CA that may not sign certificates, or serves another purpose', async () => {
    const mute = await craft({
      subject: 'mute',
      issuer: root,
      extensions: (own, issuers) => [...authorityExtensions(0, own, issuers).slice(1), keyUsage(KEY_USAGE_CRL_SIGN)],
    });
    const underMute = await craftLeaf(mute, SLEEP);
    expect(refusal(() => verify([underMute, mute]))).toBe('ERR_IDENTITY_KEY_USAGE chain[1]');
    const narrow = await craft({
      subject: 'narrow',
      issuer: root,
      extensions: (own, issuers) => [...authorityExtensions(0, own, issuers), extendedKeyUsage(ID_KP_SERVER_AUTH)],
    });
    const underNarrow = await craftLeaf(narrow, SLEEP);
    expect(refusal(() => verify([underNarrow, narrow]))).toBe('ERR_IDENTITY_EXTENDED_KEY_USAGE chain[1]');
    expect(verify([underNarrow, narrow], { purpose: 'server' }).id).toBe(SLEEP);
  });

  it('through a CA that is bound to names', async () => {
    const bound = await craft({
      subject: 'bound',
      issuer: root,
      extensions: (own, issuers) => [
        ...authorityExtensions(0, own, issuers),
        extension('2.5.29.30', false, derOctetString(Buffer.of(1))),
      ],
    });
    const under = await craftLeaf(bound, SLEEP);
    expect(refusal(() => verify([under, bound]))).toBe('ERR_IDENTITY_EXTENSION chain[1]');
  });

  it('through a CA or to a root whose time is over or has not come', async () => {
    const late = await craftCa('late', root, 0, { notAfterMs: NOW - 1000 });
    const underLate = await craftLeaf(late, SLEEP);
    expect(refusal(() => verify([underLate, late]))).toBe('ERR_IDENTITY_EXPIRED chain[1]');
    const early = await craftCa('early', undefined, 0, { notBeforeMs: NOW + 1000 });
    const underEarly = await craftLeaf(early, SLEEP);
    expect(refusal(() => verify([underEarly], { roots: [early.certificate] }))).toBe(
      'ERR_IDENTITY_NOT_YET_VALID roots[0]',
    );
  });

  it('with a signature by another key under the same name', async () => {
    const twin = await craftCa('intermediate', root, 0);
    const forged = await craftLeaf(twin, SLEEP);
    expect(refusal(() => verify([forged, intermediate]))).toBe('ERR_IDENTITY_SIGNATURE chain[0]');
    expect(verify([forged, intermediate, twin]).id).toBe(SLEEP);
  });

  it('that goes in a circle', async () => {
    const a = await craftCa('a');
    const b = await craftCa('b', a);
    const aByB = await craftCa('a', b, 3, { key: a.key });
    const under = await craftLeaf(a, SLEEP);
    expect(refusal(() => verify([under, aByB, b]))).toBe('ERR_IDENTITY_UNKNOWN_ISSUER chain[2]');
  });

  it('that takes too many tries', async () => {
    const twins = await Promise.all(Array.from({ length: 6 }, () => craftCa('same')));
    const under = await craftLeaf(await craftCa('same'), SLEEP);
    expect(refusal(() => verify([under, ...twins], { maxSignatureChecks: 5 }))).toBe(
      'ERR_IDENTITY_SIGNATURE_CHECKS chain[0]',
    );
    expect(refusal(() => verify([under, ...twins]))).toBe('ERR_IDENTITY_SIGNATURE chain[0]');
  });
});

describe('verifyChain refuses input', () => {
  it.each([
    ['chain', { chain: [] }],
    ['roots', { roots: [] }],
    ['now', { now: Number.NaN }],
    ['purpose', { purpose: 'peer' as never }],
    ['expected', { expected: {} as never }],
    ['maxChainCertificates', { maxChainCertificates: 0 }],
    ['maxSignatureChecks', { maxSignatureChecks: 1.5 }],
  ])('%s', (field, more) => {
    expect(refusal(() => verify([leaf, intermediate], more))).toBe(`ERR_IDENTITY_INVALID ${field}`);
  });

  it('of more certificates than it takes', () => {
    expect(refusal(() => verify(Array.from({ length: 9 }, () => leaf)))).toBe('ERR_IDENTITY_INVALID chain');
  });

  it('that is no certificate, naming which', () => {
    const chain = [leaf.certificate.der, Buffer.from('3003020101', 'hex')];
    expect(refusal(() => verify([], { chain }))).toMatch(/^ERR_IDENTITY_MALFORMED chain\[1\]/);
    expect(refusal(() => verify([], { chain: 'x' }))).toBe('ERR_IDENTITY_INVALID chain');
  });
});
