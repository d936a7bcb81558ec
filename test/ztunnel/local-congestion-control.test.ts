import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { writeSysctl } from '../../src/netns/index.ts';
import { listen } from '../../src/socket/index.ts';
import { libc } from '../../src/system/index.ts';
import { createDialler } from '../../src/ztunnel/dialler.ts';
import { localCongestionControl } from '../../src/ztunnel/local-congestion-control.ts';
import { congestionControl } from '../support/congestion-control.ts';
import { runIn, withNamespaces } from '../support/namespaces.ts';
import { describeRequiring } from '../support/require.ts';

const AVAILABLE = readFileSync('/proc/sys/net/ipv4/tcp_available_congestion_control', 'latin1').split(/\s+/);
const PARAMETER = 'net.ipv4.tcp_congestion_control';

describeRequiring('localCongestionControl', { root: true }, () => {
  it.skipIf(!AVAILABLE.includes('bbr'))('is reno where the namespace paces by BBR', () =>
    withNamespaces(['proxy'], async (namespace) => {
      writeSysctl(namespace!, PARAMETER, 'bbr');
      expect(localCongestionControl(namespace)).toBe('reno');
      expect(namespace!.run(() => localCongestionControl(undefined))).toBe('reno');
    }),
  );

  it('is the namespace’s own where that does not', () =>
    withNamespaces(['proxy'], async (namespace) => {
      writeSysctl(namespace!, PARAMETER, 'reno');
      expect(localCongestionControl(namespace)).toBeUndefined();
    }));
});

describeRequiring('a dialler', { root: true, tools: ['ip'] }, () => {
  it('uses it towards pods of this node, and nowhere else', () =>
    withNamespaces(['proxy'], async (namespace) => {
      runIn(namespace!, 'ip', 'link', 'set', 'lo', 'up');
      writeSysctl(namespace!, PARAMETER, 'cubic');
      const server = await listen({ namespace, host: '127.0.0.1', port: 0 });
      const { port } = server.address() as { port: number };
      const dialler = createDialler({ namespace, originalSource: false, localCongestionControl: 'reno' });
      const target = { ip: '127.0.0.1', port };
      const fds = [dialler.deliver(target, undefined), dialler.dial(target, undefined)];
      try {
        expect(fds.map(congestionControl)).toEqual(['reno', 'cubic']);
      } finally {
        for (const fd of fds) libc().close(fd);
        server.close();
      }
    }));
});
