package org.millrace.peers.flink.stream;

import org.millrace.peers.g1.Event;
import org.millrace.peers.g1.Words;

/** A POJO. */
public class Person {
    public long id;
    public String name;
    public String emailAddress;
    public String creditCard;
    public String city;
    public String state;
    public long dateTime;
    public String extra;

    public Person() {}

    Person(Event e) {
        id = e.id;
        name = Words.name(e.name);
        emailAddress = e.email();
        creditCard = e.creditCard();
        city = Words.city(e.city);
        state = Words.state(e.state);
        dateTime = e.time;
        extra = e.extra();
    }
}
