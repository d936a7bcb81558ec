#!/usr/bin/env node
import { AmbientError } from '../errors/index.ts';
import { UsageError } from './usage-error.ts';

const HELP = `Usage: ambient <command> [options]

Commands:
  demo      build a mesh of two nodes in network namespaces, and show what happens to its packets
  explain   what happens to a packet, by the rules and routes that the kernel has now
  rules     plan, apply, verify, watch and remove traffic redirection
  ztunnel   run the node proxy, configured by the environment variables of Istio's ztunnel

  ambient <command> --help   what a command takes
  ambient --version
`;

/** Each is loaded when it is asked for: `--help` needs no FFI. `demo-app` is for the demo itself. */
const commands: Readonly<Record<string, () => Promise<(args: string[]) => Promise<number>>>> = {
  demo: async () => (await import('./demo/command.ts')).demoCommand,
  'demo-app': async () => (await import('./demo/pod-app.ts')).podAppCommand,
  explain: async () => (await import('./explain.ts')).explainCommand,
  rules: async () => (await import('./rules.ts')).rulesCommand,
  ztunnel: async () => (await import('./ztunnel.ts')).ztunnelCommand,
};

async function main([name, ...args]: string[]): Promise<number> {
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    (name === undefined ? process.stderr : process.stdout).write(HELP);
    return name === undefined ? 2 : 0;
  }
  if (name === '--version' || name === '-v') {
    const { version } = await import('./version.ts');
    process.stdout.write(`${version}\n`);
    return 0;
  }
  const load = commands[name];
  if (load === undefined) {
    const what = name.startsWith('-') ? 'option' : 'command';
    throw new UsageError(`there is no ${what} ${JSON.stringify(name)}: \`ambient --help\` lists what there is`);
  }
  const command = await load();
  try {
    return await command(args);
  } catch (error) {
    if (!isParseError(error)) throw error;
    // Node's own words go on with advice about positional arguments that nobody asked for.
    throw new UsageError(`${error.message.split('. ')[0]}: \`ambient ${name} --help\` lists what there is`);
  }
}

function isParseError(error: unknown): error is Error {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS');
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (error instanceof UsageError) {
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 2;
  } else {
    // Ours say what went wrong; of anything else, where it did is needed too.
    const text = AmbientError.is(error) ? error.message : error instanceof Error ? error.stack : String(error);
    process.stderr.write(`ambient: ${text}\n`);
    process.exitCode = 1;
  }
}
