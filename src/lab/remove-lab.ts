import { deleteNamespace, listNamespaces } from '../netns/index.ts';
import { type LabDescription, labNames, namespaceName } from './description.ts';

/** The namespaces of a description that exist, whoever made them. */
export function remainingNamespaces(description: LabDescription): string[] {
  const present = new Set(listNamespaces());
  return labNames(description)
    .map((name) => namespaceName(description, name))
    .filter((name) => present.has(name));
}

/**
 * Takes away what a lab of this description left, by its namespaces' names, whoever made them. Processes in them are the caller's.
 *
 * @returns the names that were there
 */
export function removeLab(description: LabDescription): string[] {
  const names = remainingNamespaces(description);
  for (const name of names) deleteNamespace(name, { missingOk: true });
  return names;
}
