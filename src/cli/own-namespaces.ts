import { NetnsError, runInUserNamespace } from '../netns/index.ts';
import { UsageError } from './usage-error.ts';

/** Set for a command that runs in namespaces of its own: its process id outside, for nsenter(1). */
const OUTER_PID = 'AMBIENT_OUTER_PID';

/**
 * Runs this program once more with the same arguments, as root of a user namespace of its own.
 *
 * @param command - as the user knows it: `ambient demo`
 * @returns its exit code
 * @throws {UsageError} where this kernel lets nobody but root do that: why, and what to do
 */
export async function runInOwnNamespaces(command: string): Promise<number> {
  try {
    const args = [...process.execArgv, ...process.argv.slice(1)];
    return await runInUserNamespace({ command: process.execPath, args, pidVariable: OUTER_PID });
  } catch (error) {
    if (!(error instanceof NetnsError) || error.code !== 'ERR_NETNS_USER_NAMESPACE') throw error;
    const reason = error.message.slice(`${error.op}: `.length);
    throw new UsageError(
      `${command} needs root, or a user namespace, which cannot be had here: ${reason}. Run it again with sudo, in a container with --privileged`,
    );
  }
}

/** In namespaces of its own, which end with this process: its process id outside. Elsewhere undefined. */
export function ownNamespacesPid(): string | undefined {
  return process.env[OUTER_PID];
}
