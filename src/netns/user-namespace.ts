import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:os';
import type { Duplex } from 'node:stream';
import { isatty } from 'node:tty';
import { InvalidInputError } from '../errors/index.ts';
import { NetnsError } from './netns-error.ts';
import { userNamespaceObstacle } from './user-namespace-obstacle.ts';

/** What to run in a user namespace, and how. */
export interface UserNamespaceCommand {
  /** A program, by path or to be found on the PATH. */
  readonly command: string;
  readonly args?: readonly string[];
  /** Default: this process's own. */
  readonly environment?: NodeJS.ProcessEnv;
  /** Name of an environment variable that tells the command its process id as it is outside, for nsenter(1). Default: none. */
  readonly pidVariable?: string;
  /** Ends the command and all that it started, at once. */
  readonly signal?: AbortSignal;
  /** How long the way in may take. Default 10,000. */
  readonly timeoutMs?: number;
}

/** Whether {@link runInUserNamespace} works here; if not, `reason` says what stands in the way and which switch that is. */
export type UserNamespaceSupport = { readonly possible: true } | { readonly possible: false; readonly reason: string };

const PASSED_ON = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** Of what the tools say when they fail, this much is kept. */
const MAX_DIAGNOSTIC_CHARACTERS = 4096;

/** In two steps: devices of a network namespace that is made before the map of user ids is written would belong to nobody. */
const UNSHARE = [
  '--user',
  '--map-root-user',
  '--mount',
  '--pid',
  '--fork',
  '--kill-child',
  '--',
  'unshare',
  '--net',
  '--',
];

/**
 * What the first process of the namespaces does. Descriptor 3 is ours: it is told the command's process id once all is in place, and its
 * exit code, since `unshare` ends by the signal that it has held back meanwhile; when it closes, because this process is gone, everything
 * inside is killed. Descriptor 4 is the standard error for the command.
 * The shell stays: as the first process a command would be deaf to signals and have orphans to wait for. It catches the signals of a
 * terminal, so as to outlive the command; in the command they are as they were, since what is caught is not inherited.
 * /run comes last, since on some systems the tools are in it.
 */
const FIRST_PROCESS = `
trap : INT TERM HUP
mount -t sysfs sysfs /sys && printf 1 >/sys/class/net/lo/flags || exit
(trap '' HUP; read -r _; kill -KILL -1) <&3 >/dev/null 2>&1 4>&- &
(
  variable=$1
  shift
  read -r pid _ </proc/self/stat &&
    mount -t proc proc /proc &&
    mount -t tmpfs -o mode=0755 tmpfs /run || exit
  [ -z "$variable" ] || export "$variable=$pid"
  printf '%s\\n' "$pid" >&3
  exec "$@" 2>&4 3>&- 4>&-
)
code=$?
printf '%s\\n' "$code" >&3
exit "$code"
`;

/**
 * Runs a program as root of a user namespace of its own, which takes no privilege where the kernel allows it: in there it may make
 * network namespaces, write netlink and open transparent sockets; outside it is who it was. What it finds:
 *
 * - a network with nothing but `lo`, which is up
 * - an empty `/run`, so that names of namespaces are its own and no program that lies in there is found, with `/proc` and `/sys` to
 *   match; all other files as they are, where root has no more rights than the caller, and those of others belong to `nobody`
 * - one user and one group: `setuid()` to another, and so `sudo`, fail
 *
 * All of it ends with the program, processes that it leaves in the background too, and with this process, however that ends.
 *
 * Standard input, output and error are shared. SIGINT, SIGTERM and SIGHUP are passed on while it runs; of a Ctrl-C at the terminal it
 * hears by itself. Needs `unshare` and `mount` (util-linux): a process with threads, such as Node, cannot enter a user namespace
 * itself (unshare(2), EINVAL).
 *
 * @returns the exit code, as a shell has it: 128 and more after a signal, 126 or 127 where the program cannot be run
 * @throws {NetnsError} `ERR_NETNS_USER_NAMESPACE` where it is not possible here; the message says why, and nothing was run
 * @throws {InvalidInputError} `ERR_NETNS_USER_NAMESPACE_INPUT`, with `field`
 * @throws `signal.reason`
 */
export async function runInUserNamespace(options: UserNamespaceCommand): Promise<number> {
  const outcome = await enter(options);
  if (typeof outcome === 'number') return outcome;
  throw new NetnsError({
    code: 'ERR_NETNS_USER_NAMESPACE',
    op: 'netns.runInUserNamespace',
    message: outcome.obstacle,
  });
}

/**
 * Finds out by trying whether {@link runInUserNamespace} works here. Whether the kernel has nftables and the rest is another question:
 * `probe()` of `ambient-kit/redirection` answers it from inside.
 *
 * @throws {InvalidInputError} `ERR_NETNS_USER_NAMESPACE_INPUT`, with `field`
 * @throws `signal.reason`
 */
export async function userNamespaceSupport(
  options: Pick<UserNamespaceCommand, 'signal' | 'timeoutMs'> = {},
): Promise<UserNamespaceSupport> {
  const outcome = await enter({ ...options, command: 'true' });
  return typeof outcome === 'number' ? { possible: true } : { possible: false, reason: outcome.obstacle };
}

/** The exit code, or why nothing was run. */
async function enter(options: UserNamespaceCommand): Promise<number | { readonly obstacle: string }> {
  const { command, args = [], environment = process.env, pidVariable = '', signal, timeoutMs = 10_000 } = options;
  validate(command, args, pidVariable, timeoutMs);
  signal?.throwIfAborted();
  const entering = [...UNSHARE, 'sh', '-c', FIRST_PROCESS, 'sh', pidVariable, command, ...args];
  // At a terminal, Ctrl-C is sent to the command as well. Elsewhere it comes from us alone: whoever signals our process group does not
  // reach it.
  const hasTerminal = isatty(0);
  const child = spawn('unshare', entering, {
    env: environment,
    detached: !hasTerminal,
    stdio: ['inherit', 'inherit', 'pipe', 'pipe', 2],
  });
  const inside = new Inside(child);
  const onSignal = (name: NodeJS.Signals) => {
    if (name !== 'SIGINT' || !hasTerminal) inside.send(name);
  };
  const onAbort = () => inside.kill();
  for (const name of PASSED_ON) process.on(name, onSignal);
  signal?.addEventListener('abort', onAbort);
  const timer = setTimeout(() => {
    if (inside.pid === undefined) inside.kill();
  }, timeoutMs);
  try {
    const exitCode = await inside.ended;
    signal?.throwIfAborted();
    if (inside.pid !== undefined) return exitCode;
    const { failure } = inside;
    return {
      obstacle: failure === undefined ? `nothing happened for ${timeoutMs} ms` : userNamespaceObstacle(failure),
    };
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
    for (const name of PASSED_ON) process.off(name, onSignal);
  }
}

/** The processes of one run, from outside. */
class Inside {
  /** Of the command, once it is there. */
  pid: number | undefined;
  /** Resolves with the exit code when the command and all that it started are gone. */
  readonly ended: Promise<number>;
  readonly #child: ChildProcess;
  #exitCode: number | undefined;
  #diagnostic = '';
  #spawnError: NodeJS.ErrnoException | undefined;
  readonly #early: NodeJS.Signals[] = [];

  constructor(child: ChildProcess) {
    this.#child = child;
    // Where there is no `unshare` to start, there may be no streams either.
    const control = child.stdio[3] as Duplex | undefined;
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#diagnostic = (this.#diagnostic + text).slice(0, MAX_DIAGNOSTIC_CHARACTERS);
    });
    let told = '';
    control?.setEncoding('latin1').on('data', (text: string) => {
      told += text;
      const [pid, exitCode, rest] = told.split('\n');
      if (this.pid === undefined && exitCode !== undefined) this.#arrived(Number(pid));
      if (rest !== undefined) this.#exitCode = Number(exitCode);
    });
    control?.on('error', () => {});
    this.ended = new Promise((resolve) => {
      child.once('error', (error) => {
        this.#spawnError = error;
        resolve(127);
      });
      child.once('close', (code, signal) => {
        resolve(this.#exitCode ?? code ?? 128 + constants.signals[signal!]);
      });
    });
  }

  /** Why the command was never there, in the words of whoever failed; undefined where nobody said anything. */
  get failure(): string | NodeJS.ErrnoException | undefined {
    return this.#spawnError ?? (this.#diagnostic.trim() || undefined);
  }

  /** To the command; kept for it until it is there. */
  send(name: NodeJS.Signals): void {
    if (this.pid === undefined) this.#early.push(name);
    else if (this.#exitCode === undefined) kill(this.pid, name);
  }

  /** Ends all of it. */
  kill(): void {
    (this.#child.stdio[3] as Duplex).destroy();
    // Half-way in, nobody may be listening yet. Later `unshare` is left to end after all the others, for which it would not wait if killed.
    if (this.pid === undefined) this.#child.kill('SIGKILL');
  }

  #arrived(pid: number): void {
    this.pid = pid;
    for (const name of this.#early) kill(pid, name);
  }
}

function kill(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

function validate(command: string, args: readonly string[], pidVariable: string, timeoutMs: number): void {
  const fault =
    command === '' || command.includes('\0')
      ? ['command', `${JSON.stringify(command)} is no program`]
      : args.some((argument) => argument.includes('\0'))
        ? ['args', 'one has a NUL in it']
        : pidVariable !== '' && !/^[A-Za-z_][A-Za-z0-9_]*$/.test(pidVariable)
          ? ['pidVariable', `${JSON.stringify(pidVariable)} is no name of an environment variable`]
          : !(timeoutMs > 0 && timeoutMs < 2 ** 31)
            ? ['timeoutMs', `${timeoutMs} is not above 0 and below 2^31`]
            : undefined;
  if (fault === undefined) return;
  const [field, message] = fault as [string, string];
  throw new InvalidInputError({
    code: 'ERR_NETNS_USER_NAMESPACE_INPUT',
    op: 'netns.runInUserNamespace',
    field,
    message,
  });
}
