package org.millrace.peers.g1;

/** What names, cities and states are drawn from. */
public final class Words {
    private static final String[] FIRST = {
        "Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"
    };
    private static final String[] LAST = {
        "Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"
    };
    private static final String[] NAMES = names();
    private static final String[] CITIES = {
        "Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"
    };
    private static final String[] STATES = {"AZ", "CA", "ID", "OR", "WA", "WY"};

    static final int FIRSTS = FIRST.length, LASTS = LAST.length;

    private Words() {}

    private static String[] names() {
        String[] all = new String[FIRST.length * LAST.length];
        for (int i = 0; i < all.length; i++) {
            all[i] = FIRST[i / LAST.length] + " " + LAST[i % LAST.length];
        }
        return all;
    }

    public static String name(int i) {
        return NAMES[i];
    }

    public static String city(int i) {
        return CITIES[i];
    }

    public static String state(int i) {
        return STATES[i];
    }

    public static String[] allNames() {
        return NAMES.clone();
    }

    public static String[] allCities() {
        return CITIES.clone();
    }

    public static String[] allStates() {
        return STATES.clone();
    }
}
