import { expect, it } from 'vitest';
import { type NetworkNamespace, readSysctl, writeSysctl } from '../../src/netns/index.ts';
import { openConnecting, openListener } from '../../src/socket/index.ts';
import { libc, SOCK_CLOEXEC, SOCK_NONBLOCK } from '../../src/system/index.ts';
import { migrateHandshakes } from '../../src/ztunnel/migrate-handshakes.ts';
import { runIn, withNamespaces } from '../support/namespaces.ts';
import { describeRequiring } from '../support/require.ts';

const PARAMETER = 'net.ipv4.tcp_migrate_req';
const CONNECTIONS = 20;

/** @returns how many of the connections the second listener of a port gets when the first one is closed with its share unaccepted */
function takenOver(namespace: NetworkNamespace, before: () => void): number {
  const listener = () => openListener({ namespace, host: '127.0.0.1', port: 15001, reusePort: true });
  const old = listener();
  using young = listener();
  const clients = Array.from({ length: CONNECTIONS }, () =>
    openConnecting({ namespace, host: '127.0.0.1', port: 15001 }),
  );
  before();
  old.close();
  let taken = 0;
  for (;;) {
    const fd = libc().accept4(young.fd, null, null, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) break;
    libc().close(fd);
    taken++;
  }
  for (const client of clients) client.close();
  return taken;
}

describeRequiring('migrateHandshakes', { root: true, tools: ['ip'] }, () => {
  it('leaves what a listener has not accepted to the other one of its port, and puts the parameter back', () =>
    withNamespaces(['proxy'], async (namespace) => {
      runIn(namespace!, 'ip', 'link', 'set', 'lo', 'up');
      expect(takenOver(namespace!, () => {})).toBeLessThan(CONNECTIONS);
      let end = () => {};
      const taken = takenOver(namespace!, () => {
        end = migrateHandshakes(namespace!);
      });
      expect(taken).toBe(CONNECTIONS);
      expect(readSysctl(namespace!, PARAMETER)).toBe('1');
      end();
      expect(readSysctl(namespace!, PARAMETER)).toBe('0');
    }));

  it('leaves a namespace alone that has it on already', () =>
    withNamespaces(['proxy'], async (namespace) => {
      writeSysctl(namespace!, PARAMETER, 1);
      migrateHandshakes(namespace!)();
      expect(readSysctl(namespace!, PARAMETER)).toBe('1');
    }));
});
