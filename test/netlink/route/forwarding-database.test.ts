import { expect, it } from 'vitest';
import { openNetlink } from '../../../src/netlink/index.ts';
import { listForwardingEntries } from '../../../src/netlink/route/forwarding-database.ts';
import { getLink } from '../../../src/netlink/route/index.ts';
import { runIn, vethPair, withNamespaces } from '../../support/namespaces.ts';
import { describeRequiring } from '../../support/require.ts';

describeRequiring('listForwardingEntries', { root: true, tools: ['ip', 'bridge'] }, () => {
  it('has what bridge fdb has: the ports’ own addresses, and those behind them', async () => {
    await withNamespaces(['fdb-a', 'fdb-b'], (a, b) => {
      vethPair({ namespace: a, device: 'port', addresses: [] }, { namespace: b, device: 'eth0', addresses: [] });
      runIn(a, 'ip', 'link', 'add', 'br0', 'type', 'bridge');
      runIn(a, 'ip', 'link', 'set', 'port', 'master', 'br0');
      runIn(a, 'bridge', 'fdb', 'add', '02:00:5e:10:00:01', 'dev', 'port', 'master', 'static');
      using netlink = openNetlink({ family: 'route', namespace: a });
      const entries = listForwardingEntries(netlink);
      const own = getLink(netlink, 'port')!.address!;
      const behind = { address: '02:00:5e:10:00:01', device: 'port', bridge: 'br0' };
      expect(entries).toContainEqual({ ...behind, isLocal: false });
      expect(entries).toContainEqual({ ...behind, address: own, isLocal: true });
    });
  });
});
