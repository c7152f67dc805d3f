// Package platformtest holds the tests of the whole: the main job through both doors, who may see what, what becomes of
// random histories, kills, losses and outages, and how long it takes. What one package does by itself is tested there.
//
// A federation is a running platform as its users see it. There are three ways to get one: onePlatform is `chapterhouse
// up` in this process, deploy is `chapterhouse serve` in processes of their own, and build is a house, the tiers in
// this process on servers that a test can stop, wipe and tamper with.
package platformtest
