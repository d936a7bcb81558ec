import { MeshFileError } from '../discovery/index.ts';
import { openYaml } from '../discovery/yaml-cursor.ts';
import { quoteInput } from '../ip/address.ts';
import type { PodOptions } from './pod-service.ts';

/** A pod as a pods file has it. */
export type ListedPod = PodOptions & { readonly netns: string };

/** Values of a pod, its list and the file around them, generously. */
const VALUES_PER_POD = 8;

/**
 * Reads the pods of a shared proxy: YAML, camelCase, unknown keys refused.
 *
 * ```yaml
 * pods:
 * - {uid: 7c2e…, name: sleep, namespace: default, serviceAccount: sleep, netns: cni-7c2e…}
 * - {name: httpbin, namespace: default, serviceAccount: httpbin, netns: /proc/4711/ns/net}
 * ```
 *
 * `netns` is a name under /run/netns or an absolute path; a `uid` that is left out is made of namespace and name. A pod whose namespace was
 * made anew under an old name needs a new `uid`, since nothing else in the file says so.
 *
 * @param path - for error messages only
 * @param maxPods - more are refused
 * @throws {MeshFileError} `ERR_DISCOVERY_FILE_CONTENT`, `ERR_DISCOVERY_FILE_LIMIT`, with line, column and field path
 */
export function parsePodsFile(path: string, text: string, maxPods: number): ListedPod[] {
  const top = openYaml(path, text, { maxValues: (maxPods + 1) * VALUES_PER_POD }).mapping(['pods']);
  const uids = new Set<string>();
  const pods = top.required('pods').list((item) => {
    const map = item.mapping(['uid', 'name', 'namespace', 'serviceAccount', 'netns']);
    const name = map.required('name').nonEmptyText();
    const namespace = map.required('namespace').nonEmptyText();
    const uid = map.optional('uid', (value) => value.nonEmptyText(), `${namespace}/${name}`);
    if (uids.has(uid)) item.fail(`a second pod ${quoteInput(uid)}`);
    uids.add(uid);
    const serviceAccount = map.required('serviceAccount').nonEmptyText();
    return { uid, name, namespace, serviceAccount, netns: map.required('netns').nonEmptyText() };
  });
  if (pods.length <= maxPods) return pods;
  throw new MeshFileError({
    code: 'ERR_DISCOVERY_FILE_LIMIT',
    path,
    field: 'pods',
    message: `${pods.length} pods, more than ${maxPods}`,
  });
}
