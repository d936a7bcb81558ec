/** Issue 5, the last line: what is wrong is named by its field, and nothing is half done. */
import { execFileSync } from 'node:child_process';
import { pathToFileURL } from 'node:url';
import { describe, expect, it } from 'vitest';
import { AmbientError } from '../../src/errors/index.ts';
import { openNamespace } from '../../src/netns/index.ts';
import {
  type Action,
  apply,
  type Match,
  nodeMode,
  podMode,
  type RedirectionPlan,
  renderIptables,
  renderNftables,
  renderNftText,
  verify,
} from '../../src/redirection/index.ts';
import { listen } from '../../src/socket/index.ts';
import { runIn, withNamespaces } from '../support/namespaces.ts';
import { describeRequiring, NOBODY } from '../support/require.ts';
import { editRules } from './edit-plan.ts';
import { withNode } from './node-fixture.ts';

const options = { hostIp: '172.18.0.2', ztunnelIp: '10.244.1.2', ztunnelVeth: 'vethza' } as const;
const pods = [{ ip: '10.244.1.10', veth: 'vethpod' }];

/** A pod's plan in which one rule is wrong. */
const wrong = (change: { readonly match?: Match; readonly action?: Action }): RedirectionPlan =>
  editRules(podMode(), 'nat-output-6', (rule) => [
    {
      ...rule,
      matches: change.match === undefined ? rule.matches : [...rule.matches, change.match],
      action: change.action ?? rule.action,
    },
  ]);

const cases: readonly (readonly [string, RedirectionPlan, string, string])[] = [
  ['a port of 0', wrong({ action: { do: 'redirect', port: 0 } }), 'action.port', 'is not 1 to 65535'],
  ['a port of 65536', wrong({ action: { do: 'redirect', port: 65_536 } }), 'action.port', '65536 is not 1 to 65535'],
  ['a port that is no number', wrong({ action: { do: 'redirect', port: 80.5 } }), 'action.port', '80.5'],
  [
    'a port to match out of range',
    wrong({ match: { on: 'protocol', protocol: 'tcp', destinationPort: 70_000 } }),
    'matches[3].destinationPort',
    '70000',
  ],
  [
    'a source port to match out of range',
    wrong({ match: { on: 'protocol', protocol: 'tcp', sourcePort: -1 } }),
    'matches[3].sourcePort',
    '-1',
  ],
  ['an address that is none', wrong({ match: { on: 'source', ip: '10.0.0' } }), 'matches[3].ip', '10.0.0'],
  [
    'an IPv6 address that is none',
    wrong({ match: { on: 'source', ip: '10.0.0.1', ip6: 'fd00::g' } }),
    'matches[3].ip6',
    'fd00::g',
  ],
  ['where to that is none', wrong({ action: { do: 'dnat', ip: '10.0.0.256', port: 80 } }), 'action.ip', '10.0.0.256'],
  [
    'a device’s name of 16 bytes',
    wrong({ match: { on: 'out-interface', name: '0123456789abcdef' } }),
    'matches[3].name',
    '1 to 15 bytes',
  ],
  ['a zone out of range', wrong({ action: { do: 'zone', zone: 65_536 } }), 'action.zone', '65536 is not 0 to 65535'],
  ['a mark outside its mask', wrong({ action: { do: 'mark', value: 3, mask: 1 } }), '', '0x3 does not fit'],
];

describe('a plan of one’s own is refused by every rendering, naming rule and field', () => {
  it.each(cases)('%s', (_what, plan, field, message) => {
    const expected = expect.objectContaining({
      code: expect.stringMatching(/^ERR_(REDIRECTION_INVALID|IP_ADDRESS)$/),
      field: field === '' ? 'nat-output-6' : `nat-output-6.${field}`,
      message: expect.stringContaining(message),
    });
    for (const render of [renderNftables, renderNftText, renderIptables]) {
      expect(() => render(plan, 'pod')).toThrow(expected);
    }
  });
});

describeRequiring('nothing is half done', { root: true, tools: ['ip', 'nft'] }, () => {
  it('where a plan is wrong', async () => {
    await withNamespaces(['pod'], (pod) => {
      for (const [, plan] of cases) expect(() => apply(plan, { pod: pod! })).toThrow(AmbientError);
      expect(runIn(pod!, 'nft', 'list', 'ruleset')).toBe('');
      expect(runIn(pod!, 'ip', 'rule')).not.toContain('32764');
      expect(runIn(pod!, 'ip', 'link')).toContain('state DOWN');
    });
  });

  it('where a namespace was closed before', async () => {
    await withNode((node, ztunnel) => {
      const gone = openNamespace(ztunnel.name!);
      gone.close();
      expect(() => apply(nodeMode({ ...options, pods }), { node, ztunnel: gone })).toThrow(AmbientError);
      expect(runIn(node, 'nft', 'list', 'ruleset')).toBe('');
      expect(runIn(node, 'ip', 'link')).not.toContain('istioin');
    });
  });

  it('where a namespace goes away meanwhile: a pod is enrolled wholly or not at all', async () => {
    await withNode((node, ztunnel) => {
      const mine = openNamespace(node.name!);
      using redirection = apply(nodeMode({ ...options, pods }), { node: mine, ztunnel });
      mine.close();
      expect(() => redirection.addPod({ ip: '10.244.1.11', veth: 'vethpod' })).toThrow(
        expect.objectContaining({ code: 'ERR_REDIRECTION_FAILED', step: expect.stringContaining('sysctl') }),
      );
      expect(verify(redirection.plan, { node, ztunnel }).differences).toEqual([]);
      expect(redirection.plan.pods.list).toEqual(pods);
    });
  });

  it('where a pod’s rules are refused while its connections are being kept', async () => {
    await withNamespaces(['pod'], async (namespace) => {
      const pod = namespace!;
      runIn(pod, 'ip', 'link', 'set', 'lo', 'up');
      const server = await listen({ namespace: pod, host: '127.0.0.1', port: 80 });
      try {
        // The kernel has TPROXY in prerouting only.
        const plan = editRules(podMode({ ipv6: false }), 'nat-output-6', (rule) => [
          { ...rule, action: { do: 'tproxy', port: 15_001, mark: { value: 1, mask: 1 }, otherwise: 'next-rule' } },
        ]);
        expect(() => apply(plan, { pod })).toThrow(
          expect.objectContaining({
            code: 'ERR_REDIRECTION_FAILED',
            step: 'pod: add rule ip istio-ambient-nat ISTIO_OUTPUT "nat-output-6"',
            message: expect.stringMatching(/EOPNOTSUPP|ENOTSUP|EINVAL/),
            leftovers: [],
          }),
        );
        expect(runIn(pod, 'nft', 'list', 'ruleset')).toBe('');
        expect(runIn(pod, 'ip', 'rule')).not.toContain('32764');
        expect(runIn(pod, 'ip', 'route', 'show', 'table', 'all')).not.toContain('table 100');
      } finally {
        server.close();
      }
    });
  });
});

describeRequiring('nothing is done', { root: true, users: true, tools: ['nft'] }, () => {
  it('where it is not permitted: EPERM by name, before and behind the kernel’s features', async () => {
    await withNamespaces(['pod'], (pod) => {
      const library = pathToFileURL(`${import.meta.dirname}/../../src/`);
      // Whoever it becomes may not be able to read this repository: all is imported, and opened, before.
      const script = `
        const { apply, podMode, probe } = await import('${library}redirection/index.ts');
        const { openNamespace } = await import('${library}netns/index.ts');
        const pod = openNamespace('${pod!.name}');
        const kernel = probe();
        process.setgroups([]); process.setgid(${NOBODY}); process.setuid(${NOBODY});
        const codes = [{}, { kernel }].map((options) => {
          try { apply(podMode(), { pod }, options); return 'applied'; }
          catch (error) { return [error.name, error.code, error.message]; }
        });
        console.log(JSON.stringify(codes));`;
      const output = execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
      for (const [name, code, message] of JSON.parse(output) as [string, string, string][]) {
        expect([name, code]).toEqual(['SystemError', 'EPERM']);
        expect(message).toMatch(/unshare|setns/);
      }
      expect(runIn(pod!, 'nft', 'list', 'ruleset')).toBe('');
    });
  });
});
