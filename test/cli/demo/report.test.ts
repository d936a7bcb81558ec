import { describe, expect, it } from 'vitest';
import { checkCiphertext, checkConntrack, checkVisited, seenByApp } from '../../../src/cli/demo/common-checks.ts';
import { scenarioText, summaryText } from '../../../src/cli/demo/report.ts';
import { Checks } from '../../../src/cli/demo/scenario.ts';

describe('checks', () => {
  it('note what was found, and what was expected where that is something else', () => {
    const checks = new Checks();
    checks.is('node-a', 'routing', 'to the proxy', 'table 101', 'table 101');
    checks.is('node-a', 'routing', 'to the proxy', undefined, 'table 101');
    expect(checks.list).toEqual([
      { at: 'node-a', from: 'routing', what: 'to the proxy', found: 'table 101', pass: true },
      { at: 'node-a', from: 'routing', what: 'to the proxy', found: 'nothing', expected: 'table 101', pass: false },
    ]);
  });

  it.each([
    ['plaintext on the link', { plaintextSegments: 1 }],
    ['no tunnel on the link', { tunnelSegments: 0 }],
    ['frames that the packet socket missed', { lost: 1 }],
  ])('%s is no ciphertext', (_, differing) => {
    const good = { on: 'node-a eth0', segments: 9, tunnelSegments: 5, tunnelBytes: 900, plaintextSegments: 0, lost: 0 };
    const checks = new Checks();
    checkCiphertext(checks, good);
    checkCiphertext(checks, { ...good, ...differing });
    expect(checks.list.map(({ pass }) => pass)).toEqual([true, false]);
  });

  it('a rule that counted nothing was not visited', () => {
    const checks = new Checks();
    const visit = { role: 'node', id: 'prerouting-15', table: 'mangle', chain: 'ztunnel-PREROUTING', rule: '' };
    const visits = [{ ...visit, node: 'node-b', packets: 1 }];
    checkVisited(checks, visits, { node: 'node-b' }, 'prerouting-15', 'first packet');
    checkVisited(checks, visits, { node: 'node-a' }, 'prerouting-15', 'first packet');
    expect(checks.list.map(({ pass }) => pass)).toEqual([true, false]);
  });

  it('a connection with another mark, or none at all, is not the proxy’s', () => {
    const checks = new Checks();
    const entry = { node: 'a', original: 'a > b', reply: 'b > a', state: 'ESTABLISHED', status: [], mark: '0x210' };
    for (const entries of [[entry], [{ ...entry, mark: '0x0' }], []]) {
      checkConntrack(checks, 'node-a', entries, 'connection', () => true, '');
    }
    checkConntrack(checks, 'node-a', [entry], 'connection', () => false, '');
    checkConntrack(checks, 'httpbin', [entry], 'connection', () => true, '', '0x111');
    expect(checks.list.map(({ pass }) => pass)).toEqual([true, false, false, false, false]);
  });

  it('an answer that is not the server’s own says nothing of the client', () => {
    const answer = { status: 200, elapsedMs: 1 };
    expect(seenByApp({ ...answer, body: '{"app":"httpbin","origin":"::ffff:10.0.0.1"}' })).toEqual({
      app: 'httpbin',
      origin: '10.0.0.1',
    });
    expect(seenByApp({ ...answer, body: 'no' })).toEqual({ app: '', origin: '' });
  });
});

describe('the report for a person', () => {
  const checks = new Checks();
  checks.is('sleep', 'answer', 'the answer', '200', '200');
  checks.is('node-a', 'counters', 'kube-proxy', 1, 0);
  const request = { from: 'sleep', to: 'httpbin', source: '' };

  it('is aligned, and marks what is not as it should be', () => {
    const result = { name: 'cross-node', title: 'sleep asks httpbin', pass: false, checks: checks.list, request };
    expect(scenarioText(result)).toBe(`cross-node: sleep asks httpbin
  ok  sleep   the answer  200  [answer]
  NOT node-a  kube-proxy  1 (expected 0)  [counters]
  FAIL

`);
  });

  it('gives the reason where a scenario could not be carried through', () => {
    const text = scenarioText({ name: 'denied', title: '', pass: false, checks: [], failure: 'no answer within 5 s' });
    expect(text).toContain('  NOT no answer within 5 s\n  FAIL\n');
  });

  it('sums up', () => {
    const [good, bad] = [true, false].map((pass) => ({
      name: pass ? 'same-node' : 'denied',
      title: '',
      pass,
      checks: [],
      request,
    }));
    const sum = { mode: 'pod', elapsedMs: 1849, kept: false } as const;
    expect(summaryText({ ...sum, pass: true, scenarios: [good!, good!] })).toBe(
      'pod mode: 2 scenarios, all pass, 1.8 s\n',
    );
    expect(summaryText({ ...sum, pass: false, scenarios: [good!, bad!] })).toBe(
      'pod mode: 2 scenarios, 1 FAIL: denied, 1.8 s\n',
    );
  });
});
