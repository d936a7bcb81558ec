import { type NetworkNamespace, readSysctl, writeSysctl } from '../netns/index.ts';
import { SystemError } from '../system/index.ts';

/** Since Linux 5.14; per network namespace, off by default. */
const MIGRATE = 'net.ipv4.tcp_migrate_req';

/**
 * From now on a listener that is closed leaves its connections to the others of its port (SO_REUSEPORT): those whose handshake is under
 * way, and those that nobody has accepted. Without it the kernel resets them, and a proxy that takes over from another would lose them.
 * Where the kernel does not have it, or does not let us, nothing changes.
 *
 * @returns puts the parameter back as it was
 */
export function migrateHandshakes(namespace: NetworkNamespace): () => void {
  const write = (value: string) => unlessRefused(() => writeSysctl(namespace, MIGRATE, value));
  if (unlessRefused(() => readSysctl(namespace, MIGRATE)) !== '0') return () => {};
  write('1');
  return () => write('0');
}

function unlessRefused<T>(attempt: () => T): T | undefined {
  try {
    return attempt();
  } catch (error) {
    if (error instanceof SystemError) return undefined;
    throw error;
  }
}
