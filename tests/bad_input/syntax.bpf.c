// SPDX-License-Identifier: GPL-2.0 OR MIT
/* Does not compile. */
int answer = ;
