import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { stateDirectoryPath } from '../../src/cli/demo/state-directory.ts';
import type { LabMode } from '../../src/lab/index.ts';
import { createNamespace } from '../../src/netns/index.ts';
import { describeRequiring, run } from '../support/require.ts';
import { ambient, exists, freshPrefix, leftOf, NOTHING, processesOf, withKeptMesh } from './ambient.ts';

const NAMES = ['cross-node', 'same-node', 'outside-mesh', 'plaintext-in', 'denied', 'fast-path'];
const TIMEOUT_MS = 90_000;

describe('ambient demo: what it is told', () => {
  it('--help lists options and scenarios', async () => {
    const { code, stdout } = await ambient(['demo', '--help']);
    expect(code).toBe(0);
    for (const word of ['--scenario', '--mode', '--json', '--keep', '--down', ...NAMES]) expect(stdout).toContain(word);
  });

  it.each([
    [['--scenario', 'cross'], `there is no scenario "cross": it is one of ${NAMES.join(', ')}\n`],
    [['--prefix', '../x'], '--prefix "../x" is not a letter, then a-z, 0-9 and -, with - at the end\n'],
    [['--down', '--keep'], '--down goes with no option but --prefix\n'],
    [['--down', '--mode', 'pod'], '--down goes with no option but --prefix\n'],
    [['--mode', 'sidecar'], '--mode "sidecar" is neither node nor pod\n'],
  ])('%j: one sentence, exit 2', async (args, stderr) => {
    expect(await ambient(['demo', ...args])).toEqual({ code: 2, stdout: '', stderr });
  });
});

/** Everything that is the same in both modes. */
function describeMode(mode: LabMode, checkEvidence: (scenarios: Record<string, Evidence>) => void): void {
  describeRequiring(`ambient demo --mode ${mode}`, { root: true }, () => {
    it('--json: one document, every scenario passes with its evidence, nothing stays', {
      timeout: TIMEOUT_MS,
    }, async () => {
      const prefix = freshPrefix();
      const { code, stdout, stderr } = await ambient(['demo', '--mode', mode, '--json', '--prefix', prefix]);
      const { scenarios, pass, kept, mode: shown } = JSON.parse(stdout);
      const failed = scenarios.flatMap(({ name, failure, checks }: Scenario) => [
        ...(failure === undefined ? [] : [`${name}: ${failure}`]),
        ...checks.filter((check) => !check.pass).map((check) => `${name}: ${JSON.stringify(check)}`),
      ]);
      expect(failed).toEqual([]);
      expect({ code, pass, kept, shown }).toEqual({ code: 0, pass: true, kept: false, shown: mode });
      expect(scenarios.map(({ name }: Scenario) => name)).toEqual(NAMES);
      expect(stderr).toMatch(/namespaces[\s\S]*scenarios/);
      expect(leftOf(prefix)).toEqual(NOTHING);

      const byName = Object.fromEntries(scenarios.map((scenario: Scenario) => [scenario.name, scenario]));
      expect(byName['cross-node'].wire.tunnelSegments).toBeGreaterThan(0);
      expect(byName['cross-node'].wire).toMatchObject({ plaintextSegments: 0, lost: 0 });
      expect(byName['cross-node'].answer.origin).toBe('10.244.1.10');
      expect(byName['same-node'].wire.tunnelSegments).toBe(0);
      // What tells a packet socket that sees nothing from one that cannot.
      expect(byName['outside-mesh'].wire.plaintextSegments).toBeGreaterThan(0);
      expect(byName['plaintext-in'].answer.origin).toBe('172.18.0.100');
      expect(byName.denied.ending.bytesReceived).toBe(0);
      expect(byName.denied.explanation).toMatch(/default\/deny-client2.*rule 0/s);
      checkEvidence(byName);
    });

    it('--scenario runs what is named, in its own order, for a person', { timeout: TIMEOUT_MS }, async () => {
      const prefix = freshPrefix();
      const wanted = ['--scenario', 'denied', '--scenario', 'same-node'];
      const { code, stdout } = await ambient(['demo', '--mode', mode, '--prefix', prefix, ...wanted]);
      expect(code).toBe(0);
      const named = NAMES.map((name) => [name, stdout.search(new RegExp(`^${name}: `, 'm'))] as const);
      const shown = named.filter(([, at]) => at >= 0).sort(([, a], [, b]) => a - b);
      expect(shown.map(([name]) => name)).toEqual(['same-node', 'denied']);
      expect(stdout).toMatch(/2 scenarios, all pass, \d+\.\d s\n$/);
      expect(leftOf(prefix)).toEqual(NOTHING);
    });

    it.each([
      ['SIGINT', /namespaces/, 130],
      ['SIGINT', /proxies and servers/, 130],
      ['SIGTERM', /cross-node: pass/, 143],
    ] as const)('%s at %s leaves nothing, exit %i', { timeout: TIMEOUT_MS }, async (signal, moment, exitCode) => {
      const prefix = freshPrefix();
      let started: number[] = [];
      const { code, stdout, stderr } = await ambient(['demo', '--mode', mode, '--json', '--prefix', prefix], {
        onProgress: (text, child) => {
          if (!moment.test(text)) return;
          started = [...processesOf(prefix).values()];
          child.kill(signal);
        },
      });
      expect({ code, stdout }).toEqual({ code: exitCode, stdout: '' });
      expect(stderr).toContain(`ended by ${signal}, everything is removed\n`);
      expect(leftOf(prefix)).toEqual(NOTHING);
      expect(started.filter(exists)).toEqual([]);
    });

    it.each(['node-a: cables', 'proxies and servers', 'same-node: pass'])(
      'a crash at "%s" leaves nothing',
      { timeout: TIMEOUT_MS },
      async (moment) => {
        const prefix = freshPrefix();
        // In the demo's own process, outside of anything that could catch it.
        const crash = `
          const { write } = process.stderr;
          process.stderr.write = function (text, ...rest) {
            if (String(text).includes(${JSON.stringify(moment)})) setImmediate(() => { throw new Error('a bug'); });
            return write.call(this, text, ...rest);
          };`;
        let started: number[] = [];
        const { code, stderr } = await ambient(['demo', '--mode', mode, '--json', '--prefix', prefix], {
          environment: { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(crash)}` },
          onProgress: () => {
            started = [...processesOf(prefix).values()];
          },
        });
        expect(code).toBe(1);
        expect(stderr).toContain('Error: a bug');
        expect(leftOf(prefix)).toEqual(NOTHING);
        expect(started.filter(exists)).toEqual([]);
      },
    );

    it('a proxy that dies ends the run, which says so and leaves nothing', { timeout: TIMEOUT_MS }, async () => {
      const prefix = freshPrefix();
      let killed = false;
      const { code, stderr } = await ambient(['demo', '--mode', mode, '--json', '--prefix', prefix], {
        onProgress: (text) => {
          if (killed || !/scenarios/.test(text)) return;
          killed = true;
          process.kill(processesOf(prefix).get('ztunnel-b')!, 'SIGKILL');
        },
      });
      expect(code).toBe(1);
      expect(stderr).toContain('ztunnel-b was ended by SIGKILL');
      expect(leftOf(prefix)).toEqual(NOTHING);
    });

    it('a killed run is recognised, and --down removes it', { timeout: TIMEOUT_MS }, async () => {
      const prefix = freshPrefix();
      let processes: number[] = [];
      const { code } = await ambient(['demo', '--mode', mode, '--json', '--prefix', prefix], {
        onProgress: (text, child) => {
          if (!/scenarios/.test(text)) return;
          processes = [...processesOf(prefix).values()];
          child.kill('SIGKILL');
        },
      });
      expect(code).toBeNull();
      expect(processes).toHaveLength(5);
      expect(processes.every(exists)).toBe(true);
      const again = await ambient(['demo', '--mode', mode, '--prefix', prefix]);
      expect(again.code).toBe(2);
      expect(again.stderr).toBe(
        `a killed run has left something behind: remove it with \`ambient demo --down --prefix ${prefix}\`\n`,
      );
      const down = await ambient(['demo', '--down', '--prefix', prefix]);
      expect(down).toEqual({
        code: 0,
        stdout: `removed 5 processes, 8 namespaces, ${stateDirectoryPath(prefix)}\n`,
        stderr: '',
      });
      expect(leftOf(prefix)).toEqual(NOTHING);
      expect(processes.filter(exists)).toEqual([]);
      expect((await ambient(['demo', '--down', '--prefix', prefix])).stdout).toBe('nothing to remove\n');
    });

    it('--down ends a run that is under way', { timeout: TIMEOUT_MS }, async () => {
      const prefix = freshPrefix();
      let down: Promise<{ code: number | null }> | undefined;
      const { code } = await ambient(['demo', '--mode', mode, '--json', '--prefix', prefix], {
        onProgress: (text) => {
          if (/proxies and servers/.test(text)) down = ambient(['demo', '--down', '--prefix', prefix]);
        },
      });
      expect(code).toBe(143);
      expect((await down)?.code).toBe(0);
      expect(leftOf(prefix)).toEqual(NOTHING);
    });
  });
}

describeMode('node', (scenarios) => {
  const skipped = scenarios['fast-path']!.notVisitedAgain!.map(({ id }) => id);
  expect(skipped).toEqual(expect.arrayContaining(['prerouting-15', 'nat-prerouting-1', 'ztunnel-2']));
  expect(scenarios['fast-path']!.conntrack![0]!.mark).toBe('0x210');
});

describeMode('pod', (scenarios) => {
  const rulesOf = (name: string) => new Set(scenarios[name]!.counters!.map(({ node, id }) => `${node} ${id}`));
  expect(rulesOf('cross-node')).toContain('sleep nat-output-6');
  expect(rulesOf('same-node')).toContain('sleep nat-output-6');
  expect(rulesOf('plaintext-in')).toContain('httpbin nat-prerouting-3');
  expect(rulesOf('denied')).toContain('client2 nat-output-6');
  const redirected = scenarios['cross-node']!.conntrack![0]!;
  expect(redirected).toMatchObject({ node: 'sleep', mark: '0x111' });
  expect(redirected.original).toMatch(/ > 10\.96\.0\.105:80$/);
  expect(redirected.reply).toMatch(/^127\.0\.0\.1:15001 > 10\.244\.1\.10:/);
  expect(scenarios['plaintext-in']!.probe).toMatchObject({ origin: '169.254.7.127' });
  const skipped = scenarios['fast-path']!.notVisitedAgain!.map(({ node, id }) => `${node} ${id}`);
  expect(skipped).toEqual(expect.arrayContaining(['sleep nat-output-6', 'httpbin nat-output-5']));
});

describeRequiring('ambient demo --down', { root: true }, () => {
  it('--down spares a process that has a recorded number by chance', async () => {
    const prefix = freshPrefix();
    const bystander = spawn('sleep', ['60']);
    await once(bystander, 'spawn');
    try {
      mkdirSync(stateDirectoryPath(prefix), { mode: 0o700 });
      const recorded = { name: 'ztunnel-a', pid: bystander.pid, startTime: '1' };
      const state = { demo: { ...recorded, name: 'demo' }, isKept: false, processes: [recorded] };
      writeFileSync(`${stateDirectoryPath(prefix)}/state.json`, JSON.stringify(state));
      createNamespace(`${prefix}sleep`).close();
      const { stdout } = await ambient(['demo', '--down', '--prefix', prefix]);
      expect(stdout).toBe(`removed 0 processes, 1 namespace, ${stateDirectoryPath(prefix)}\n`);
      expect(leftOf(prefix)).toEqual(NOTHING);
      expect(bystander.exitCode ?? bystander.signalCode).toBeNull();
    } finally {
      bystander.kill();
    }
  });
});

describeRequiring(
  'ambient demo reports what is there, not what should be',
  { root: true, tools: ['ip', 'nft'] },
  () => {
    /** Runs one scenario, having changed something before it begins; gives the checks that did not pass. */
    async function failing(
      scenario: string,
      change: (prefix: string) => void,
      mode: LabMode = 'node',
    ): Promise<string[]> {
      const prefix = freshPrefix();
      const args = ['demo', '--mode', mode, '--json', '--prefix', prefix, '--scenario', scenario];
      const { code, stdout } = await ambient(args, {
        // Proxies take longer to start than a change takes.
        onProgress: (text) => /proxies and servers/.test(text) && change(prefix),
      });
      expect(code).toBe(1);
      expect(leftOf(prefix)).toEqual(NOTHING);
      const { scenarios, pass } = JSON.parse(stdout);
      expect(pass).toBe(false);
      return scenarios[0].checks.filter((check: { pass: boolean }) => !check.pass).map(({ what }: Check) => what);
    }
    const inside = (prefix: string, name: string, ...command: string[]) =>
      run('ip', 'netns', 'exec', `${prefix}${name}`, ...command);

    it('a kube-proxy that is not passed by', { timeout: TIMEOUT_MS }, async () => {
      const flush = (prefix: string) =>
        inside(prefix, 'node-a', 'nft', 'flush', 'chain', 'ip', 'ztunnel-nat', 'ztunnel-PREROUTING');
      expect(await failing('cross-node', flush)).toEqual(
        expect.arrayContaining(['keeps the ClusterIP', 'connections that kube-proxy took', 'original destination']),
      );
    });

    it('a policy that is not there', { timeout: TIMEOUT_MS }, async () => {
      const drop = (prefix: string) => {
        const path = `${stateDirectoryPath(prefix)}/mesh.yaml`;
        writeFileSync(path, readFileSync(path, 'utf8').replace(/^ {2}authorizationPolicies.*\n/m, ''));
      };
      expect(await failing('denied', drop)).toEqual(
        expect.arrayContaining(['its connection', 'RBAC', 'because', 'connections of client2 to httpbin']),
      );
    });

    it('a pod whose traffic is not redirected', { timeout: TIMEOUT_MS }, async () => {
      const flush = (prefix: string) =>
        inside(prefix, 'sleep', 'nft', 'flush', 'chain', 'ip', 'istio-ambient-nat', 'ISTIO_OUTPUT');
      expect(await failing('cross-node', flush, 'pod')).toEqual(
        expect.arrayContaining([
          'redirected to 15001 as it leaves',
          'connections that kube-proxy took',
          'original destination',
          'between the nodes',
        ]),
      );
    });

    it('a pod that its proxy does not serve', { timeout: TIMEOUT_MS }, async () => {
      const leaveOut = (prefix: string) => {
        const path = `${stateDirectoryPath(prefix)}/node-a.pods.yaml`;
        writeFileSync(path, readFileSync(path, 'utf8').replace(/^- name: client2\n(?: .*\n)*/m, ''));
      };
      // Nobody takes what is for client2, so that sleep's proxy finds no other to speak to.
      expect(await failing('denied', leaveOut, 'pod')).toEqual(
        expect.arrayContaining(['original destination', 'peer', 'RBAC', 'because']),
      );
    });

    it('a client whose address is not kept', { timeout: TIMEOUT_MS }, async () => {
      const masquerade = (prefix: string) => {
        inside(prefix, 'node-b', 'nft', 'add table ip akt');
        inside(prefix, 'node-b', 'nft', 'add chain ip akt post { type nat hook postrouting priority 50; }');
        inside(prefix, 'node-b', 'nft', 'add rule ip akt post tcp dport 80 masquerade');
      };
      expect(await failing('cross-node', masquerade)).toContain('saw as its client');
    });
  },
);

describeRequiring('ambient demo --keep', { root: true, tools: ['ip', 'nft', 'curl'] }, () => {
  it('leaves a mesh to look around in, and says how', { timeout: TIMEOUT_MS }, async () => {
    const prefix = freshPrefix();
    try {
      const kept = await ambient(['demo', '--keep', '--prefix', prefix, '--scenario', 'cross-node']);
      expect(kept.code).toBe(0);
      expect(kept.stdout).toContain(`ip netns exec ${prefix}sleep curl http://10.96.0.105/`);
      expect(kept.stdout).toContain(`ambient demo --down --prefix ${prefix}`);
      const second = await ambient(['demo', '--prefix', prefix]);
      expect(second.code).toBe(2);
      expect(second.stderr).toMatch(/^a kept mesh is running already: remove it with `ambient demo --down/);

      const inside = (name: string, ...command: string[]) => run('ip', 'netns', 'exec', `${prefix}${name}`, ...command);
      expect(JSON.parse(inside('sleep', 'curl', '-s', 'http://10.96.0.105/'))).toMatchObject({
        app: 'httpbin',
        origin: '10.244.1.10',
      });
      expect(() => inside('client2', 'curl', '-s', 'http://10.96.0.105/')).toThrow();
      const rules = inside('node-a', 'nft', 'list', 'ruleset');
      for (const name of ['ztunnel-pods-ips', 'ztunnel-PREROUTING', '10.244.1.10']) expect(rules).toContain(name);
      const policy = inside('node-a', 'ip', 'rule');
      expect(policy).toMatch(/^100:.*fwmark 0x200\/0x200 goto 32766$/m);
      expect(policy).toMatch(/^101:.*fwmark 0x100\/0x100 lookup 101/m);
      expect(inside('node-a', 'ip', 'route', 'show', 'table', '101')).toMatch(
        /^default via 192\.168\.127\.2 dev istioout/m,
      );
    } finally {
      const processes = [...processesOf(prefix).values()];
      expect((await ambient(['demo', '--down', '--prefix', prefix])).code).toBe(0);
      expect(leftOf(prefix)).toEqual(NOTHING);
      expect(processes.filter(exists)).toEqual([]);
    }
  });

  // It becomes a user of its own.
  describeRequiring('with tcpdump', { users: true, tools: ['tcpdump'] }, () => {
    it('tcpdump between the nodes shows port 15008 and none of the plaintext', { timeout: TIMEOUT_MS }, async () => {
      await withKeptMesh(async (prefix) => {
        const dump = spawn('ip', [
          ...['netns', 'exec', `${prefix}node-a`, 'tcpdump', '-lnni', 'eth0', '-A', '-s0', 'tcp'],
        ]);
        let seen = '';
        dump.stdout.setEncoding('latin1').on('data', (text: string) => {
          seen += text;
        });
        try {
          await once(dump.stderr, 'data');
          const ask = (url: string) =>
            run('ip', 'netns', 'exec', `${prefix}sleep`, 'curl', '-s', '-H', 'x-secret: open-sesame', url);
          expect(ask('http://10.96.0.105/')).toContain('open-sesame');
          await expect.poll(() => seen.match(/\.15008: Flags \[P/g)?.length ?? 0).toBeGreaterThan(0);
          expect(seen).not.toContain('open-sesame');
          // The same tcpdump does see it where there is no tunnel.
          expect(ask('http://203.0.113.10:8080/')).toContain('open-sesame');
          await expect.poll(() => seen).toContain('open-sesame');
        } finally {
          dump.kill();
          await once(dump, 'close');
        }
      });
    });
  });

  it('killing one ztunnel breaks its pods only', { timeout: TIMEOUT_MS }, async () => {
    await withKeptMesh(async (prefix) => {
      const ask = (from: string, url: string) =>
        run('ip', 'netns', 'exec', `${prefix}${from}`, 'curl', '-s', '-m', '3', url);
      expect(ask('sleep', 'http://10.96.0.105/')).toContain('10.244.1.10');
      process.kill(processesOf(prefix).get('ztunnel-a')!, 'SIGKILL');
      // Trap 13: fails closed, in both directions.
      expect(() => ask('sleep', 'http://10.96.0.105/')).toThrow();
      expect(() => ask('sleep', 'http://203.0.113.10:8080/')).toThrow();
      expect(() => ask('outside', 'http://10.244.1.11/')).toThrow();
      expect(ask('outside', 'http://10.244.2.10/')).toContain('"origin": "172.18.0.100"');
      expect(ask('httpbin', 'http://203.0.113.10:8080/')).toContain('"origin": "172.18.0.3"');
    });
  });
});

describeRequiring('ambient demo --mode pod --keep', { root: true, tools: ['ip', 'nft', 'curl', 'ss'] }, () => {
  const inside = (prefix: string, name: string, ...command: string[]) =>
    run('ip', 'netns', 'exec', `${prefix}${name}`, ...command);
  const ask = (prefix: string, from: string, url: string) => inside(prefix, from, 'curl', '-s', '-m', '3', url);

  it('leaves a mesh to look around in, and says how', { timeout: TIMEOUT_MS }, async () => {
    const prefix = freshPrefix();
    try {
      const kept = await ambient([
        ...['demo', '--mode', 'pod', '--keep', '--prefix', prefix, '--scenario', 'cross-node'],
      ]);
      expect(kept.code).toBe(0);
      // Each line that it says, short of those that do not end.
      const lines = kept.stdout.split('\n').map((line) => line.split('  # ')[0]!.trim());
      const commands = lines.filter(
        (line) => line.startsWith('ip netns exec ') && !/curl|tcpdump|conntrack/.test(line),
      );
      expect(commands.length).toBeGreaterThanOrEqual(4);
      for (const command of commands) run('sh', '-c', command);
      expect(JSON.parse(ask(prefix, 'sleep', 'http://10.96.0.105/'))).toMatchObject({ origin: '10.244.1.10' });
      expect(() => ask(prefix, 'client2', 'http://10.96.0.105/')).toThrow();
      expect(inside(prefix, 'sleep', 'nft', 'list', 'ruleset')).toContain('redirect to :15001');
      expect(inside(prefix, 'httpbin', 'ip', 'rule')).toMatch(/^32764:.*fwmark 0x111\/0xfff lookup 100/m);
      for (const port of [15001, 15006, 15008]) {
        expect(inside(prefix, 'sleep', 'ss', '-ltn')).toMatch(new RegExp(`:${port}\\b`));
        expect(inside(prefix, 'ztunnel-a', 'ss', '-ltn')).not.toMatch(new RegExp(`:${port}\\b`));
      }
    } finally {
      expect((await ambient(['demo', '--down', '--prefix', prefix])).code).toBe(0);
      expect(leftOf(prefix)).toEqual(NOTHING);
    }
  });

  it('a pod that is taken out of the file is served no more, and again once it is back', {
    timeout: TIMEOUT_MS,
  }, async () => {
    await withKeptMesh(async (prefix) => {
      const path = `${stateDirectoryPath(prefix)}/node-a.pods.yaml`;
      const both = readFileSync(path, 'utf8');
      const answers = (from: string) => {
        try {
          return ask(prefix, from, 'http://203.0.113.10:8080/').includes('"app": "outside"');
        } catch {
          return false;
        }
      };
      expect([answers('sleep'), answers('client2')]).toEqual([true, true]);
      writeFileSync(path, both.replace(/^- name: sleep\n(?: .*\n)*/m, ''));
      await expect.poll(() => answers('sleep'), { timeout: 8000 }).toBe(false);
      expect(answers('client2')).toBe(true);
      writeFileSync(path, both);
      await expect.poll(() => answers('sleep'), { timeout: 8000 }).toBe(true);
    }, 'pod');
  });

  it('killing one ztunnel breaks its pods only', { timeout: TIMEOUT_MS }, async () => {
    await withKeptMesh(async (prefix) => {
      expect(ask(prefix, 'sleep', 'http://10.96.0.105/')).toContain('10.244.1.10');
      process.kill(processesOf(prefix).get('ztunnel-a')!, 'SIGKILL');
      expect(() => ask(prefix, 'sleep', 'http://10.96.0.105/')).toThrow();
      expect(() => ask(prefix, 'sleep', 'http://203.0.113.10:8080/')).toThrow();
      expect(() => ask(prefix, 'outside', 'http://10.244.1.11/')).toThrow();
      // The node's own probes do not need it.
      expect(ask(prefix, 'node-a', 'http://10.244.1.11/')).toContain('"origin": "169.254.7.127"');
      expect(ask(prefix, 'outside', 'http://10.244.2.10/')).toContain('"origin": "172.18.0.100"');
    }, 'pod');
  });
});

interface Check {
  readonly what: string;
}

interface Scenario {
  readonly name: string;
  readonly failure?: string;
  readonly checks: readonly { readonly pass: boolean }[];
}

/** As much of a scenario's evidence as is looked at for one mode only. */
interface Evidence {
  readonly counters?: readonly { readonly node: string; readonly id: string }[];
  readonly conntrack?: readonly {
    readonly node: string;
    readonly original: string;
    readonly reply: string;
    readonly mark: string;
  }[];
  readonly notVisitedAgain?: readonly { readonly node: string; readonly id: string }[];
  readonly probe?: { readonly origin: string };
}
