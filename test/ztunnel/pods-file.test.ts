import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { PodOptions } from '../../src/ztunnel/index.ts';
import { PodsFile, type PodTaker } from '../../src/ztunnel/pods-file.ts';
import { eventually } from './mesh.ts';

/** A proxy that notes what it is asked for, and refuses what it is told to. */
class NotedPods implements PodTaker {
  readonly calls: string[] = [];
  readonly served = new Map<string, PodOptions>();
  readonly refusals = new Map<string, string>();
  /** Held back until told. */
  gate: Promise<void> = Promise.resolve();

  async addPod(pod: PodOptions, { signal }: { readonly signal: AbortSignal }): Promise<void> {
    this.calls.push(`+${pod.uid}`);
    await this.gate;
    signal.throwIfAborted();
    const refusal = this.refusals.get(pod.uid);
    if (refusal !== undefined) throw new Error(refusal);
    this.served.set(pod.uid, pod);
  }

  async removePod(uid: string): Promise<boolean> {
    this.calls.push(`-${uid}`);
    return this.served.delete(uid);
  }
}

describe('PodsFile', () => {
  let folder: string;
  let path: string;
  let pods: NotedPods;
  let warnings: string[];
  let file: PodsFile;

  const write = (...uids: string[]) => {
    const lines = uids.map((uid) => {
      const [name, netns = `ns-${name}`] = uid.split('@');
      return `- {uid: ${name}, name: ${name}, namespace: default, serviceAccount: ${name}, netns: ${netns}}\n`;
    });
    put(`pods:${uids.length === 0 ? ' []' : ''}\n${lines.join('')}`);
  };
  const put = (text: string) => {
    writeFileSync(`${path}.new`, text);
    renameSync(`${path}.new`, path);
  };
  const start = (signal: AbortSignal = new AbortController().signal) => {
    file = new PodsFile({ path, pods, maxPods: 10, retryMs: 50, onWarning: (message) => warnings.push(message) });
    return file.start(signal);
  };

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'pods-file-'));
    path = join(folder, 'pods.yaml');
    pods = new NotedPods();
    warnings = [];
  });
  afterEach(async () => {
    await file.close();
    rmSync(folder, { recursive: true });
  });

  it('serves what it says at the start, and each change of it after that', async () => {
    write('a', 'b');
    await start();
    expect([...pods.served.keys()]).toEqual(['a', 'b']);
    write('b', 'c');
    await eventually(() => pods.served.has('c') && !pods.served.has('a'));
    expect(pods.calls.toSorted()).toEqual(['+a', '+b', '+c', '-a']);
    write();
    await eventually(() => pods.served.size === 0);
    expect(warnings).toEqual([]);
  });

  it('a pod that is in another namespace now is taken out, and served there', async () => {
    write('a', 'b');
    await start();
    write('a@another', 'b');
    await eventually(() => pods.served.get('a')?.netns === 'another');
    expect(pods.calls.slice(2)).toEqual(['-a', '+a']);
  });

  it('a content with a fault changes nothing, and is told of once', async () => {
    write('a');
    await start();
    put('pods: [{name: b}]\n');
    await eventually(() => warnings.length > 0);
    expect(warnings).toEqual([expect.stringMatching(/^pods: .*pods\.yaml:1:/)]);
    expect(pods.calls).toEqual(['+a']);
    rmSync(path);
    await eventually(() => warnings.length > 1);
    expect([...pods.served.keys()]).toEqual(['a']);
  });

  it('a first content with a fault ends the start', async () => {
    put('pods: 1\n');
    await expect(start()).rejects.toMatchObject({ name: 'MeshFileError', field: 'pods' });
    expect(pods.calls).toEqual([]);
  });

  it('a pod that cannot be served is told of once, tried again, and holds up no other', async () => {
    pods.refusals.set('a', 'no such namespace');
    write('a', 'b');
    await start();
    expect([...pods.served.keys()]).toEqual(['b']);
    await eventually(() => pods.calls.filter((call) => call === '+a').length >= 3);
    expect(warnings).toEqual(['pods: no such namespace']);
    pods.refusals.delete('a');
    await eventually(() => pods.served.has('a'));
    expect(pods.calls.filter((call) => call === '+b').length).toBe(1);
  });

  it('what changes while a pod is being served is made so after it', async () => {
    write('a', 'b');
    const gate = Promise.withResolvers<void>();
    pods.gate = gate.promise;
    const started = start();
    await eventually(() => pods.calls.length === 2);
    write('b');
    await new Promise((resolve) => setTimeout(resolve, 400));
    expect(pods.calls).toEqual(['+a', '+b']);
    gate.resolve();
    await started;
    await eventually(() => !pods.served.has('a'));
    expect(pods.calls).toEqual(['+a', '+b', '-a']);
  });

  it('an abort ends the start, close() ends the retries', async () => {
    write('a');
    const controller = new AbortController();
    const gate = Promise.withResolvers<void>();
    pods.gate = gate.promise;
    const started = start(controller.signal);
    await eventually(() => pods.calls.length === 1);
    controller.abort(new Error('changed my mind'));
    gate.resolve();
    await expect(started).rejects.toThrow('changed my mind');
    await file.close();
    const calls = pods.calls.length;
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(pods.calls.length).toBe(calls);
  });
});
