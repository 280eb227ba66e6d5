/* SPDX-License-Identifier: Apache-2.0 */
/* Random ids in lower case hex from getrandom(2): 24 digits for objects, 32 for operations. */
#pragma once

#define ID_OBJECT_LEN 24
#define ID_OPERATION_LEN 32

void id_object(char ret[ID_OBJECT_LEN + 1]);
void id_operation(char ret[ID_OPERATION_LEN + 1]);
/* The same id for the same name, for objects that are not stored: 24 digits. */
void id_of_name(const char *kind, const char *name, char ret[ID_OBJECT_LEN + 1]);
