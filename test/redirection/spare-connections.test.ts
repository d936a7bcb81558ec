import { expect, it } from 'vitest';
import { addConntrack, listConntrack } from '../../src/netlink/conntrack/index.ts';
import { openNetlink } from '../../src/netlink/index.ts';
import { CONNSKIP_MARK } from '../../src/redirection/index.ts';
import { spareConnections } from '../../src/redirection/spare-connections.ts';
import { withNamespaces } from '../support/namespaces.ts';
import { describeRequiring } from '../support/require.ts';

const POD = '10.244.1.10';
const tcp = (source: string, destination: string) =>
  ({ source, destination, protocol: 6, sourcePort: 40000, destinationPort: 80 }) as const;

describeRequiring('spareConnections (trap 3)', { root: true }, () => {
  // Many connections to a pod: the kernel is asked for each pod's. Few: the table is read once.
  it.each([
    ['one pod beside many others’ connections', [POD], 2600],
    ['one pod', [POD], 0],
    ['six pods', [POD, ...[1, 2, 3, 4, 5].map((n) => `10.244.9.${n}`)], 2600],
  ])('of %s: marks both directions and those behind a service, and no others', async (_what, ips, others) => {
    await withNamespaces(['spare'], (namespace) => {
      using netlink = openNetlink({ family: 'netfilter', namespace });
      const add = (entry: Parameters<typeof addConntrack>[1]) =>
        addConntrack(netlink, { timeoutSeconds: 60, ...entry });
      for (let i = 0; i < others; i++) add({ original: { ...tcp('10.9.0.1', '10.9.0.2'), sourcePort: 10_000 + i } });
      add({ original: tcp(POD, '10.0.0.1') });
      add({ original: tcp('10.0.0.2', POD) });
      // By a service: the reply comes from the pod.
      add({
        original: tcp('10.0.0.3', '10.96.0.1'),
        reply: { source: POD, destination: '10.0.0.3', protocol: 6, sourcePort: 80, destinationPort: 40000 },
      });
      add({ original: tcp(POD, '10.0.0.4'), mark: 0x210 });
      add({ original: tcp(POD, '10.0.0.5'), mark: 0x4000 });
      add({ original: tcp('10.0.0.6', '10.0.0.7') });
      expect(spareConnections(netlink, ips, CONNSKIP_MARK)).toBe(4);
      const marks = listConntrack(netlink)
        .filter(({ original, mark }) => original.source !== '10.9.0.1' || mark !== 0)
        .map(({ original, mark }) => [`${original.source} ${original.destination}`, mark]);
      expect(Object.fromEntries(marks)).toEqual({
        [`${POD} 10.0.0.1`]: 0x220,
        [`10.0.0.2 ${POD}`]: 0x220,
        '10.0.0.3 10.96.0.1': 0x220,
        // Captured by a proxy already: stays so.
        [`${POD} 10.0.0.4`]: 0x210,
        // Bits of somebody else are kept.
        [`${POD} 10.0.0.5`]: 0x4220,
        '10.0.0.6 10.0.0.7': 0,
      });
    });
  });
});
