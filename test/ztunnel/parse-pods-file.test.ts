import { describe, expect, it } from 'vitest';
import { MeshFileError } from '../../src/discovery/index.ts';
import { parsePodsFile } from '../../src/ztunnel/index.ts';

const pod = (more = '') => `- {name: sleep, namespace: default, serviceAccount: sleep, netns: cni-1${more}}\n`;

describe('parsePodsFile', () => {
  it('reads pods, and makes a uid of namespace and name where there is none', () => {
    const text = `pods:\n${pod()}- {uid: 7c2e, name: httpbin, namespace: shop, serviceAccount: web, netns: /proc/42/ns/net}\n`;
    expect(parsePodsFile('pods.yaml', text, 10)).toEqual([
      { uid: 'default/sleep', name: 'sleep', namespace: 'default', serviceAccount: 'sleep', netns: 'cni-1' },
      { uid: '7c2e', name: 'httpbin', namespace: 'shop', serviceAccount: 'web', netns: '/proc/42/ns/net' },
    ]);
  });

  it('takes a list without an entry: nobody is served', () => {
    expect(parsePodsFile('pods.yaml', 'pods: []', 10)).toEqual([]);
  });

  const refused: [string, string, Partial<MeshFileError>][] = [
    ['no list', 'pods: {}', { field: 'pods', line: 1 }],
    ['no key', '{}', { message: expect.stringContaining('the key "pods" is missing') as unknown as string }],
    ['nothing at all', '', { message: expect.stringContaining('the file is empty') as unknown as string }],
    ['a key that there is not', 'pods: []\npod: []', { field: 'pod', line: 2 }],
    ['a key of a pod that there is not', `pods:\n${pod(', ip: 10.1.0.5')}`, { field: 'pods[0].ip', line: 2 }],
    ['a pod without a namespace', 'pods:\n- {name: a, serviceAccount: a, netns: a}', { line: 2 }],
    ['an empty netns', "pods:\n- {name: a, namespace: b, serviceAccount: a, netns: ''}", { field: 'pods[0].netns' }],
    ['a number for a name', 'pods:\n- {name: 1, namespace: b, serviceAccount: a, netns: x}', { field: 'pods[0].name' }],
    ['the same pod twice', `pods:\n${pod()}${pod()}`, { field: 'pods[1]', line: 3 }],
    ['no YAML', 'pods: [', {}],
  ];
  it.each(refused)('refuses %s, and says where', (_, text, expected) => {
    let error: unknown;
    try {
      parsePodsFile('pods.yaml', text, 10);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(MeshFileError);
    expect(error).toMatchObject({ code: 'ERR_DISCOVERY_FILE_CONTENT', path: 'pods.yaml', ...expected });
  });

  it('refuses more pods than the proxy takes, whatever they are made of', () => {
    const many = Array.from({ length: 11 }, (_, i) => pod(`, uid: ${JSON.stringify(`u${i}`)}`)).join('');
    expect(() => parsePodsFile('pods.yaml', `pods:\n${many}`, 10)).toThrow(
      expect.objectContaining({ code: 'ERR_DISCOVERY_FILE_LIMIT', message: expect.stringContaining('more than 10') }),
    );
    expect(() => parsePodsFile('pods.yaml', `pods:\n${many}`, 11)).not.toThrow();
    const bomb = `pods:\n- &a {name: a, namespace: b, serviceAccount: c, netns: d}\n${'- *a\n'.repeat(1000)}`;
    expect(() => parsePodsFile('pods.yaml', bomb, 1000)).toThrow(MeshFileError);
  });
});
